//! The laws of `Clock` and `Timer`: monotonic time, a wall clock nobody relies on, no early wake.

use std::pin::pin;
use std::time::Duration;

use amarra_core::time::timeout_at;
use amarra_core::{Elapsed, Monotonic};
use futures_util::future::{join, join_all};

use crate::backend::ClockBackend;
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `Clock` and its `Timer` for one `ClockBackend`.
    clock_laws in clock for ClockBackend {
        Clock:
            "CLK-1" clk_1_monotonic_time_never_goes_back,
            "CLK-1" clk_1_monotonic_time_passes_while_waiting,
            "CLK-2" clk_2_a_jump_of_the_wall_clock_moves_no_monotonic_time;
        Timer:
            "TMR-1" tmr_1_a_wait_never_ends_early,
            "TMR-1" tmr_1_many_waits_each_end_at_their_own_point,
            "TMR-1" tmr_1_a_jump_of_the_wall_clock_ends_no_wait,
            "TMR-1" tmr_1_a_timeout_does_not_strike_before_its_point,
            "TMR-1" tmr_1_a_dropped_wait_leaves_the_others_alone,
            "TMR-2" tmr_2_a_point_in_the_past_returns,
            "TMR-2" tmr_2_the_point_now_returns,
            "TMR-2" tmr_2_work_that_is_ready_wins_over_a_point_in_the_past;
    }
}

/// A wait that laws can afford.
const SHORT: Duration = Duration::from_millis(5);
/// How far the wall clock jumps, in microseconds.
const JUMP: i64 = 3_600_000_000;

/// Read a thousand times, and between waits.
pub async fn clk_1_monotonic_time_never_goes_back<B: ClockBackend>(b: B) {
    let clock = b.clock();
    let mut last = clock.monotonic();
    for n in 0..1000 {
        if n % 250 == 0 {
            b.timer().sleep_until(last.plus(SHORT)).await;
        }
        let now = clock.monotonic();
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
}

/// It is time, not a counter of calls.
pub async fn clk_1_monotonic_time_passes_while_waiting<B: ClockBackend>(b: B) {
    let (clock, start) = (b.clock(), b.clock().monotonic());
    b.timer().sleep_until(start.plus(SHORT)).await;
    assert!(clock.monotonic().since(start) >= SHORT);
}

/// Set forward or back, the wall clock is another clock.
pub async fn clk_2_a_jump_of_the_wall_clock_moves_no_monotonic_time<B: ClockBackend>(b: B) {
    let clock = b.clock();
    let mut last = clock.monotonic();
    for jump in [JUMP, -2 * JUMP, JUMP] {
        b.jump_wall(jump);
        let now = clock.monotonic();
        assert!(now >= last, "a jump of the wall clock took monotonic time back");
        assert!(now.since(last) < Duration::from_secs(60), "it moved monotonic time forward");
        assert!(clock.now().as_micros() > 0, "the wall clock stands before the epoch");
        last = now;
    }
}

/// From nothing to several times the short wait.
pub async fn tmr_1_a_wait_never_ends_early<B: ClockBackend>(b: B) {
    for nanos in [1, 999, 1_000, 1_000_001, 5_000_000] {
        let at = b.clock().monotonic().plus(Duration::from_nanos(nanos));
        b.timer().sleep_until(at).await;
        assert!(b.clock().monotonic() >= at, "a wait of {nanos} ns ended early");
    }
}

/// Twenty at once, in no order.
pub async fn tmr_1_many_waits_each_end_at_their_own_point<B: ClockBackend>(b: B) {
    let (clock, timer) = (b.clock(), b.timer());
    let start = clock.monotonic();
    join_all((0..20_u64).map(|n| {
        let at = start.plus(Duration::from_millis((n * 7) % 20));
        let (clock, timer) = (&clock, &timer);
        async move {
            timer.sleep_until(at).await;
            assert!(clock.monotonic() >= at, "a wait ended early");
        }
    }))
    .await;
}

/// A wait is by monotonic time.
pub async fn tmr_1_a_jump_of_the_wall_clock_ends_no_wait<B: ClockBackend>(b: B) {
    let at = b.clock().monotonic().plus(SHORT * 2);
    let timer = b.timer();
    join(timer.sleep_until(at), async {
        b.jump_wall(JUMP);
        b.jump_wall(-JUMP);
    })
    .await;
    assert!(b.clock().monotonic() >= at, "a jump of the wall clock ended a wait");
}

/// Work that is slower is given up at the point; work that is faster is not.
pub async fn tmr_1_a_timeout_does_not_strike_before_its_point<B: ClockBackend>(b: B) {
    let (clock, timer) = (b.clock(), b.timer());
    let at = clock.monotonic().plus(SHORT);
    let never = timeout_at(timer.as_ref(), at, std::future::pending::<()>()).await;
    assert_eq!(never, Err(Elapsed));
    assert!(clock.monotonic() >= at, "a timeout struck early");
    let start = clock.monotonic();
    let work = async {
        timer.sleep_until(start.plus(SHORT)).await;
        7
    };
    let far = start.plus(Duration::from_secs(3600));
    assert_eq!(timeout_at(timer.as_ref(), far, work).await, Ok(7));
}

/// Giving one wait up, before or after it began, is nobody else's business.
pub async fn tmr_1_a_dropped_wait_leaves_the_others_alone<B: ClockBackend>(b: B) {
    let (clock, timer) = (b.clock(), b.timer());
    let at = clock.monotonic().plus(SHORT);
    let kept = async {
        timer.sleep_until(at).await;
        assert!(clock.monotonic() >= at);
    };
    drop(timer.sleep_until(at));
    let given_up = async {
        let mut wait = pin!(timer.sleep_until(at.plus(SHORT)));
        let _ = timeout_at(timer.as_ref(), Monotonic::default(), wait.as_mut()).await;
    };
    join(kept, given_up).await;
}

/// However long ago.
pub async fn tmr_2_a_point_in_the_past_returns<B: ClockBackend>(b: B) {
    b.timer().sleep_until(b.clock().monotonic().plus(SHORT)).await;
    b.timer().sleep_until(Monotonic::default()).await;
}

/// A point that is reached is past.
pub async fn tmr_2_the_point_now_returns<B: ClockBackend>(b: B) {
    for _ in 0..10 {
        b.timer().sleep_until(b.clock().monotonic()).await;
    }
}

/// A result that is there is not thrown away.
pub async fn tmr_2_work_that_is_ready_wins_over_a_point_in_the_past<B: ClockBackend>(b: B) {
    let timer = b.timer();
    let answer = timeout_at(timer.as_ref(), Monotonic::default(), async { 7 }).await;
    assert_eq!(answer, Ok(7));
    let late = timeout_at(timer.as_ref(), Monotonic::default(), std::future::pending::<()>());
    assert_eq!(late.await, Err(Elapsed));
}
