//! What members and the writer share: the ends of the partitions, their newest records, the groups.

use std::collections::{BTreeMap, VecDeque};

use amarra_core::Monotonic;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Group, Record, Topic};

use super::group::{GroupState, MemberId};

/// A partition's number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartitionId(pub(super) i64);

/// Everything that is known without asking the file.
#[derive(Debug)]
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) topics: BTreeMap<Topic, Vec<PartitionId>>,
    pub(super) logs: BTreeMap<PartitionId, Log>,
    pub(super) groups: BTreeMap<Group, GroupState>,
    cache: Cache,
    next_member: u64,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) at: TopicPartition,
    /// The first offset that is kept.
    pub(super) start: u64,
    /// The offset that the next record gets: all below it are committed.
    pub(super) end: u64,
    /// The newest records, the last one just below `end`.
    newest: VecDeque<Record>,
}

/// In which order records entered memory, over all partitions.
#[derive(Debug)]
struct Cache {
    bytes_max: usize,
    bytes: usize,
    order: VecDeque<(PartitionId, usize)>,
}

/// What a partition has at some offset.
pub(super) enum Found<'a> {
    /// Nothing yet.
    Nothing,
    /// Records, the first one at the offset asked for.
    InMemory(Box<dyn Iterator<Item = &'a Record> + 'a>),
    /// Records that are in the file only, below this offset.
    InFile(u64),
}

impl Log {
    pub(super) fn new(at: TopicPartition, start: u64, end: u64) -> Self {
        Self { at, start, end, newest: VecDeque::new() }
    }

    /// Looks for records from `next` on.
    pub(super) fn find(&self, next: u64, limit: usize) -> Found<'_> {
        if next >= self.end {
            return Found::Nothing;
        }
        let count = u64::try_from(self.newest.len()).unwrap_or(u64::MAX);
        let first = self.end.saturating_sub(count);
        match next.checked_sub(first).map(usize::try_from) {
            Some(Ok(skip)) => Found::InMemory(Box::new(self.newest.iter().skip(skip).take(limit))),
            _ => Found::InFile(first),
        }
    }
}

impl State {
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self {
            closed: false,
            topics: BTreeMap::new(),
            logs: BTreeMap::new(),
            groups: BTreeMap::new(),
            cache: Cache { bytes_max: cache_bytes, bytes: 0, order: VecDeque::new() },
            next_member: 1,
        }
    }

    pub(super) fn id(&self, partition: &TopicPartition) -> Option<PartitionId> {
        let number = usize::try_from(partition.partition.0).ok()?;
        self.topics.get(&partition.topic)?.get(number).copied()
    }

    pub(super) fn log(&self, partition: &TopicPartition) -> Option<&Log> {
        self.logs.get(&self.id(partition)?)
    }

    /// Adds a partition; those of a topic come in the order of their numbers.
    pub(super) fn add(&mut self, id: PartitionId, log: Log) {
        self.topics.entry(log.at.topic.clone()).or_default().push(id);
        self.logs.insert(id, log);
    }

    pub(super) fn next_member(&mut self) -> MemberId {
        let id = MemberId(self.next_member);
        self.next_member = self.next_member.saturating_add(1);
        id
    }

    /// Makes committed records readable and wakes who reads their partition.
    pub(super) fn append(&mut self, id: PartitionId, records: Vec<Record>) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        for record in records {
            let bytes = record.bytes();
            log.newest.push_back(record);
            log.end = log.end.saturating_add(1);
            self.cache.order.push_back((id, bytes));
            self.cache.bytes = self.cache.bytes.saturating_add(bytes);
        }
        for group in self.groups.values() {
            group.wake(&log.at);
        }
        while self.cache.bytes > self.cache.bytes_max {
            let Some((oldest, bytes)) = self.cache.order.pop_front() else { break };
            self.cache.bytes = self.cache.bytes.saturating_sub(bytes);
            if let Some(log) = self.logs.get_mut(&oldest) {
                log.newest.pop_front();
            }
        }
    }

    /// Forgets the records in memory, when it is not known any more whether the file has more.
    pub(super) fn drop_cache(&mut self) {
        self.logs.values_mut().for_each(|log| log.newest.clear());
        self.cache.order.clear();
        self.cache.bytes = 0;
    }

    /// Begins a group's next generation.
    pub(super) fn rebalance(&mut self, group: &Group) {
        let Self { topics, logs, groups, .. } = self;
        let Some(state) = groups.get_mut(group) else { return };
        let of_topic = |topic: &Topic| topics.get(topic).into_iter().flatten();
        let partitions: Vec<_> = { state.topics().iter() }
            .flat_map(of_topic)
            .filter_map(|id| logs.get(id).map(|log| log.at.clone()))
            .collect();
        state.rebalance(&partitions);
    }

    /// Expels the members of a group whose session timed out.
    pub(super) fn expire(&mut self, group: &Group, now: Monotonic) {
        if self.groups.get_mut(group).is_some_and(|state| state.expire(now)) {
            self.rebalance(group);
        }
    }

    /// Returns below which offset every group that subscribed to a partition has read it.
    pub(super) fn read_by_all(&self, log: &Log) -> u64 {
        let next = |group: &GroupState| group.committed(&log.at).map_or(log.start, |next| next.0);
        let readers = self.groups.values().filter(|group| group.topics().contains(&log.at.topic));
        readers.map(next).min().unwrap_or(log.end).min(log.end)
    }

    /// Names a group that keeps the records of a partition from being deleted: of all such
    /// partitions the longest.
    pub(super) fn behind(&self) -> Option<(&Group, &TopicPartition)> {
        let unread = |log: &&Log| self.read_by_all(log) <= log.start && log.start < log.end;
        let log = self
            .logs
            .values()
            .filter(unread)
            .max_by_key(|log| log.end.saturating_sub(log.start))?;
        let reads = |group: &GroupState| {
            let next = group.committed(&log.at).map_or(log.start, |next| next.0);
            group.topics().contains(&log.at.topic) && next <= log.start
        };
        let (group, _) = self.groups.iter().find(|(_, group)| reads(group))?;
        Some((group, &log.at))
    }
}

#[cfg(test)]
mod tests {
    use amarra_messaging::{Headers, Partition};

    use super::*;

    fn state(cache_bytes: usize) -> State {
        let mut state = State::new(cache_bytes);
        for n in 0..2 {
            let at = TopicPartition { topic: "t".into(), partition: Partition(n) };
            state.add(PartitionId(i64::from(n)), Log::new(at, 0, 0));
        }
        state
    }

    fn record(bytes: usize) -> Record {
        let value = vec![b'x'; bytes.saturating_sub(1)].into();
        Record { key: "k".into(), headers: Headers::new(), value }
    }

    fn check(state: &State, id: i64, next: u64, expect: &str) {
        let found = match state.logs[&PartitionId(id)].find(next, 9) {
            Found::Nothing => "nothing".to_owned(),
            Found::InMemory(records) => format!("{} in memory", records.count()),
            Found::InFile(below) => format!("in the file below {below}"),
        };
        assert_eq!(found, expect, "partition {id} from {next}");
    }

    #[test]
    fn the_oldest_records_leave_memory_first_over_all_partitions() {
        let mut state = state(30);
        state.append(PartitionId(0), vec![record(10), record(10)]);
        state.append(PartitionId(1), vec![record(10)]);
        check(&state, 0, 0, "2 in memory");
        state.append(PartitionId(1), vec![record(10)]);
        check(&state, 0, 0, "in the file below 1");
        check(&state, 0, 1, "1 in memory");
        check(&state, 0, 2, "nothing");
        check(&state, 1, 0, "2 in memory");
        state.append(PartitionId(1), vec![record(31)]);
        check(&state, 0, 1, "in the file below 2");
        check(&state, 1, 2, "in the file below 3");
    }

    #[test]
    fn a_forgotten_cache_leaves_the_ends() {
        let mut state = state(30);
        state.append(PartitionId(0), vec![record(10)]);
        state.drop_cache();
        check(&state, 0, 0, "in the file below 1");
        state.append(PartitionId(0), vec![record(10)]);
        check(&state, 0, 1, "1 in memory");
    }
}
