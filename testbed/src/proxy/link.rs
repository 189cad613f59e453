//! One proxied connection: for each direction a thread that reads and one that writes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::state::{Rule, Shared};
use super::{CutAt, Direction, PATTERN_MAX, STACK};

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;
/// Chunks on the way in a direction, at the most; then reading waits.
const CHUNKS_MAX: usize = 64;
/// How long connecting to the target may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct Link {
    client: TcpStream,
    server: TcpStream,
    cut: AtomicBool,
    /// The direction in which the next bytes cut instead of passing.
    awaited: Mutex<Option<(Direction, Rule)>>,
}

impl Link {
    /// Lets nothing pass any more but what is being written now.
    pub(super) fn close(&self) {
        self.cut.store(true, Ordering::Release);
    }

    pub(super) fn cut(&self) {
        self.close();
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    fn ends(&self, direction: Direction) -> (&TcpStream, &TcpStream) {
        match direction {
            Direction::Up => (&self.client, &self.server),
            Direction::Down => (&self.server, &self.client),
        }
    }

    fn await_answer(&self, direction: Direction, rule: Rule) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        *awaited = Some((direction, rule));
    }

    /// The rule that waits for bytes in this direction.
    fn answered(&self, direction: Direction) -> Option<Rule> {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = awaited.take_if(|(awaited, _)| *awaited == direction);
        taken.map(|(_, rule)| rule)
    }
}

/// Bytes on their way, and when they may arrive.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// Takes a client's connection to the target, or closes it.
pub(super) fn open(shared: &Arc<Shared>, client: TcpStream) {
    let Some(id) = shared.enter() else { return };
    let own = Arc::clone(shared);
    let run = move || {
        connect(&own, id, client);
        own.leave(id);
    };
    if thread::Builder::new().stack_size(STACK).spawn(run).is_err() {
        shared.leave(id);
    }
}

fn connect(shared: &Shared, id: u64, client: TcpStream) {
    let Ok(server) = TcpStream::connect_timeout(&shared.target, CONNECT_PATIENCE) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let link = Link { client, server, cut: AtomicBool::new(false), awaited: Mutex::new(None) };
    let link = Arc::new(link);
    if !shared.established(id, &link) {
        return;
    }
    thread::scope(|scope| {
        for direction in [Direction::Up, Direction::Down] {
            let (sender, receiver) = sync_channel(CHUNKS_MAX);
            let link = &link;
            let reader = thread::Builder::new().stack_size(STACK);
            let reading = reader.spawn_scoped(scope, move || read(shared, link, direction, sender));
            let writer = thread::Builder::new().stack_size(STACK);
            let writing =
                writer.spawn_scoped(scope, move || write(shared, link, direction, receiver));
            if reading.is_err() || writing.is_err() {
                shared.cut(link);
            }
        }
    });
}

fn read(shared: &Shared, link: &Link, direction: Direction, sender: SyncSender<Chunk>) {
    let (mut from, _) = link.ends(direction);
    let mut buffer = vec![0; CHUNK];
    loop {
        let Ok(count) = from.read(&mut buffer) else { return shared.cut(link) };
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
        let now = Instant::now();
        let due = now.checked_add(shared.latency()).unwrap_or(now);
        if sender.send(Chunk { due, bytes: bytes.to_vec() }).is_err() {
            return;
        }
    }
}

fn write(shared: &Shared, link: &Link, direction: Direction, receiver: Receiver<Chunk>) {
    let (_, mut to) = link.ends(direction);
    let mut passed = Vec::new();
    for chunk in receiver {
        if !shared.may_pass(link, direction, chunk.due) {
            return;
        }
        if let Some(rule) = link.answered(direction) {
            rule.done();
            return shared.cut(link);
        }
        let rule = shared.matched(direction, &passed, &chunk.bytes);
        if let Some((CutAt::Answer, rule)) = &rule {
            link.await_answer(opposite(direction), rule.clone());
        }
        if let Some((CutAt::After, _)) = &rule {
            // Before the bytes leave: an answer must not slip out between them and the cut.
            shared.change(|_| link.close());
        }
        if !matches!(rule, Some((CutAt::Before, _))) && to.write_all(&chunk.bytes).is_err() {
            return shared.cut(link);
        }
        if let Some((CutAt::Before | CutAt::After, rule)) = rule {
            rule.done();
            return shared.cut(link);
        }
        remember(&mut passed, &chunk.bytes);
    }
    match link.answered(direction) {
        Some(rule) => {
            rule.done();
            shared.cut(link);
        }
        // The other direction may go on.
        None => drop(to.shutdown(Shutdown::Write)),
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Up => Direction::Down,
        Direction::Down => Direction::Up,
    }
}

/// Keeps as much of what has passed as a pattern can begin in.
fn remember(passed: &mut Vec<u8>, bytes: &[u8]) {
    passed.extend(bytes);
    let surplus = passed.len().saturating_sub(PATTERN_MAX);
    passed.drain(..surplus);
}
