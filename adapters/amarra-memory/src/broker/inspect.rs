//! A view of topics and groups, for oracles and tests.

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Group, Offset, Partition, Record, Topic};

use super::state::{State, offset};
use crate::client::ClientId;

/// What a broker holds; see [`MemoryBroker::inspect`](super::MemoryBroker::inspect).
#[derive(Debug)]
pub struct Inspection<'a> {
    state: &'a State,
}

impl<'a> Inspection<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state }
    }

    /// Tells whether the broker runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.running
    }

    /// Lists topics with their numbers of partitions.
    pub fn topics(&self) -> impl Iterator<Item = (&'a Topic, usize)> + use<'a> {
        self.state.topics.iter().map(|(topic, logs)| (topic, logs.len()))
    }

    /// Lists the readable records of a partition, from offset 0 on.
    pub fn records(
        &self,
        partition: &TopicPartition,
    ) -> impl Iterator<Item = &'a Record> + use<'a> {
        let records = self.state.log(partition).map(|log| log.read(0, usize::MAX));
        records.into_iter().flatten().map(|stored| &stored.record)
    }

    /// Lists the readable records of a topic, partition by partition.
    pub fn topic_records(
        &self,
        topic: &Topic,
    ) -> impl Iterator<Item = (Partition, Offset, &'a Record)> + use<'a> {
        let logs = self.state.topics.get(topic).into_iter().flatten();
        (0..).map(Partition).zip(logs).flat_map(|(partition, log)| {
            (0..)
                .zip(log.read(0, usize::MAX))
                .map(move |(at, stored)| (partition, offset(at), &stored.record))
        })
    }

    /// Returns the offset below which a partition is readable.
    #[must_use]
    pub fn high_watermark(&self, partition: &TopicPartition) -> Offset {
        offset(self.state.log(partition).map_or(0, |log| log.high_watermark()))
    }

    /// Lists groups.
    pub fn groups(&self) -> impl Iterator<Item = &'a Group> + use<'a> {
        self.state.groups.keys()
    }

    /// Returns a group's generation, zero before the first.
    #[must_use]
    pub fn generation(&self, group: &Group) -> u64 {
        self.state.groups.get(group).map_or(0, |group| group.generation())
    }

    /// Lists a group's members with what they are assigned.
    pub fn members(
        &self,
        group: &Group,
    ) -> impl Iterator<Item = (&'a ClientId, &'a [TopicPartition])> + use<'a> {
        let group = self.state.groups.get(group).into_iter();
        group.flat_map(|g| g.members()).map(|m| (&m.client, m.assignment.as_slice()))
    }

    /// Returns the offset a group committed on a partition.
    #[must_use]
    pub fn committed(&self, group: &Group, partition: &TopicPartition) -> Option<Offset> {
        self.state.groups.get(group)?.committed(partition)
    }

    /// Counts the readable records, of every topic a member ever subscribed to, that lie at or
    /// beyond the group's committed offsets.
    #[must_use]
    pub fn lag(&self, group: &Group) -> u64 {
        let Some(state) = self.state.groups.get(group) else { return 0 };
        let partitions = state.topics().flat_map(|topic| {
            let count = self.state.topics.get(topic).map_or(0, Vec::len);
            (0..).map(Partition).take(count).map(|partition| {
                let topic = topic.clone();
                TopicPartition { topic, partition }
            })
        });
        partitions.fold(0, |lag, partition| {
            let committed = state.committed(&partition).unwrap_or_default();
            let behind = self.high_watermark(&partition).0.saturating_sub(committed.0);
            lag.saturating_add(behind)
        })
    }
}
