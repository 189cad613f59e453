//! The ten probes.

use std::time::Duration;

use super::{Call, Guard, Setup, Subject, Verdict};

type Seen = (Verdict, String);

/// A probe's name and what it does.
type Probe = (&'static str, fn(&dyn Subject) -> Seen);

/// Every probe by its name.
pub(super) const ALL: &[Probe] = &[
    ("P1", herd),
    ("P2", cancelled),
    ("P3", late),
    ("P4", panics),
    ("P5", hangs),
    ("P6", window),
    ("P7", cycles),
    ("P8", in_flight),
    ("P9", virtual_time),
    ("P10", budget),
];

/// Short enough to sleep through, where time is real.
const WAIT: Duration = Duration::from_millis(50);

/// Long enough for it to be over.
const WAITED: Duration = Duration::from_millis(55);

/// More calls than any setup here needs to open.
const CALLS_MAX: usize = 20_000;

fn setup() -> Setup {
    Setup { window: 10, calls_min: 2, permits: 1, open_wait: WAIT, half_open_wait: WAIT }
}

fn absent() -> Seen {
    (Verdict::Absent, "nothing to examine".to_owned())
}

fn judge(sound: bool, seen: String) -> Seen {
    (if sound { Verdict::Sound } else { Verdict::Defect }, seen)
}

/// Fails until a call is refused; returns how many were not.
fn trip(guard: &dyn Guard) -> usize {
    let fail = |_: &usize| guard.start().map(|call| call.finish(false)).is_some();
    (0..CALLS_MAX).take_while(fail).count()
}

/// Makes a breaker whose open wait has just passed.
fn half_open(subject: &dyn Subject) -> Option<Box<dyn Guard>> {
    let guard = subject.breaker(setup())?;
    trip(guard.as_ref());
    subject.pass(WAITED);
    Some(guard)
}

fn herd(subject: &dyn Subject) -> Seen {
    let Some(guard) = half_open(subject) else { return absent() };
    let admitted: Vec<_> = (0..100).filter_map(|_| guard.start()).collect();
    judge(admitted.len() == 1, format!("{} of 100 admitted, 1 permitted", admitted.len()))
}

fn cancelled(subject: &dyn Subject) -> Seen {
    let Some(guard) = half_open(subject) else { return absent() };
    let probe = guard.start().map(Call::cancel).is_some();
    let next = guard.start().is_some();
    judge(probe && next, format!("probe admitted: {probe}, after it was dropped: {next}"))
}

fn late(subject: &dyn Subject) -> Seen {
    let (mut closes, mut reopens) = (false, false);
    for ok in [true, false] {
        let Some(guard) = subject.breaker(setup()) else { return absent() };
        let old = guard.start();
        trip(guard.as_ref());
        subject.pass(WAITED);
        let probe = guard.start();
        if let Some(old) = old {
            old.finish(ok);
        }
        // The probe says the opposite, and it is the one to be believed.
        if let Some(probe) = probe {
            probe.finish(!ok);
        }
        let admits = guard.start().is_some();
        closes |= ok && admits;
        reopens |= !ok && !admits;
    }
    judge(
        !closes && !reopens,
        format!("late success closes: {closes}, late failure opens: {reopens}"),
    )
}

fn panics(subject: &dyn Subject) -> Seen {
    let Some(guard) = subject.breaker(setup()) else { return absent() };
    let panic = |_: &usize| guard.start().map(Call::panic).is_some();
    let admitted = (0..50).take_while(panic).count();
    judge(admitted < 50, format!("{admitted} of 50 panicking calls admitted"))
}

fn hangs(subject: &dyn Subject) -> Seen {
    let Some(guard) = half_open(subject) else { return absent() };
    let hung = guard.start();
    let waits = (1..=10).find(|_| {
        subject.pass(WAIT);
        guard.start().is_some()
    });
    drop(hung);
    match waits {
        Some(n) => judge(true, format!("admits again {n} waits after its probe hung")),
        None => judge(false, "refuses for ever after its probe hung".to_owned()),
    }
}

fn window(subject: &dyn Subject) -> Seen {
    let wide = Setup { window: 100, calls_min: 100, ..setup() };
    let Some(guard) = subject.breaker(wide) else { return absent() };
    for _ in 0..10_000 {
        if let Some(call) = guard.start() {
            call.finish(true);
        }
    }
    let failures = trip(guard.as_ref());
    judge(failures <= 200, format!("{failures} failures to open after 10000 successes, exactly 50"))
}

fn cycles(subject: &dyn Subject) -> Seen {
    const CYCLES: i64 = 100;
    let wait = Duration::from_millis(2);
    let short = Setup { window: 100, open_wait: wait, half_open_wait: wait, ..setup() };
    let Some(guard) = subject.breaker(short) else { return absent() };
    let cycle = || {
        trip(guard.as_ref());
        subject.pass(wait.saturating_mul(2));
        // As many as it wants to see before it closes.
        for _ in 0..100 {
            if let Some(call) = guard.start() {
                call.finish(true);
            }
        }
    };
    // What is kept from the first cycle on is no leak.
    (0..10).for_each(|_| cycle());
    let leaked = subject.leaks(&mut || (0..CYCLES).for_each(|_| cycle()));
    match leaked {
        None => (Verdict::Absent, "not measured".to_owned()),
        Some(bytes) => {
            let each = bytes.checked_div(CYCLES).unwrap_or(0);
            judge(each < 8, format!("{each} bytes kept a cycle"))
        }
    }
}

fn in_flight(subject: &dyn Subject) -> Seen {
    let Some(guard) = subject.breaker(setup()) else { return absent() };
    let outer = guard.start();
    let inner = guard.start().map(|call| call.finish(true)).is_some();
    if let Some(outer) = outer {
        outer.finish(true);
    }
    match guard.garbage_held() {
        None => judge(inner, format!("a call within a call: {inner}, nothing held")),
        Some(bytes) => {
            let kib = bytes.checked_div(1024).unwrap_or(0);
            judge(inner && kib < 64, format!("a call within a call: {inner}, {kib} KiB held"))
        }
    }
}

fn virtual_time(subject: &dyn Subject) -> Seen {
    let minute = Duration::from_secs(60);
    let Some(guard) = subject.breaker(Setup { open_wait: minute, ..setup() }) else {
        return absent();
    };
    trip(guard.as_ref());
    subject.warp(minute.saturating_mul(2));
    let admits = guard.start().is_some();
    judge(admits, format!("admits after a virtual wait of twice its minute: {admits}"))
}

fn budget(subject: &dyn Subject) -> Seen {
    let mut wrong = Vec::new();
    let mut idle = None;
    for percent in [10_u8, 40, 60, 75, 90, 100] {
        let Some(purse) = subject.purse(percent) else { return absent() };
        (0..1000).for_each(|_| purse.deposit());
        let retries = (0..2000).take_while(|_| purse.withdraw()).count();
        let expect = usize::from(percent).saturating_mul(10);
        // A pro mille of rounding is not worth a word.
        if retries.abs_diff(expect) > 1 {
            let tenths = retries.checked_div(10).unwrap_or(0);
            wrong.push(format!("{percent} % allows {tenths} %"));
        }
        idle = purse.idle_month();
    }
    let replays = idle.is_some_and(|thousandths| thousandths > 100_000);
    let rounding = if wrong.is_empty() { "exact".to_owned() } else { wrong.join(", ") };
    let idling = idle.map_or_else(String::new, |thousandths| {
        let times = thousandths.checked_div(1000).unwrap_or(0);
        format!("; a deposit after an idle month takes {times} times one after a second")
    });
    judge(wrong.is_empty() && !replays, format!("{rounding}{idling}"))
}
