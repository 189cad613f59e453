//! Where records go, and whether the broker knows the client there already.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use amarra_messaging::Topic;
use amarra_messaging::murmur2::choose;
use amarra_messaging::transport::Publish;

/// After so long without a record a broker may have forgotten a producer: brokers keep what they
/// know of one for a day by default.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The partitions of the topics that a session publishes to.
///
/// A broker that knows nothing of a producer takes whatever batch of it comes first. Were the first
/// one turned away (the partition has no leader yet) and the second taken, librdkafka would
/// conclude that the first is stored as well, and it would be lost. So the first record of a client
/// in a partition goes alone; from then on the broker refuses a gap.
#[derive(Debug, Default)]
pub(super) struct Places {
    topics: BTreeMap<Topic, Partitions>,
}

#[derive(Debug)]
struct Partitions {
    count: u32,
    /// When the client in hand last sent to each one; none before the broker stored a first record
    /// of it there.
    met: Vec<Option<Instant>>,
}

impl Places {
    /// Tells whether the number of a topic's partitions is known.
    pub(super) fn knows(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    /// Notes how many partitions a topic has.
    pub(super) fn learn(&mut self, topic: &Topic, partitions: usize) {
        let count = u32::try_from(partitions).unwrap_or(u32::MAX);
        self.topics.insert(topic.clone(), Partitions { count, met: vec![None; partitions] });
    }

    /// Forgets every topic.
    pub(super) fn forget(&mut self) {
        self.topics.clear();
    }

    /// Notes that the client in hand is a new one, which no broker knows.
    pub(super) fn strange(&mut self) {
        self.topics.values_mut().for_each(|known| known.met.fill(None));
    }

    /// Chooses a record's partition, and tells whether records may follow each other there.
    pub(super) fn of(&mut self, publish: &Publish, now: Instant) -> (u32, bool) {
        let Some(known) = self.topics.get_mut(&publish.topic) else { return (0, false) };
        let partition = choose(&publish.record.key, known.count).unwrap_or(0);
        let slot = usize::try_from(partition).ok().and_then(|at| known.met.get_mut(at));
        let met = slot.and_then(Option::as_mut).is_some_and(|last| {
            let fresh = now.saturating_duration_since(*last) < FORGOTTEN;
            *last = now;
            fresh
        });
        (partition, met)
    }

    /// Notes that the broker stored a record of the client in hand in a partition.
    pub(super) fn meet(&mut self, topic: &Topic, partition: u32) {
        let known = usize::try_from(partition).ok().zip(self.topics.get_mut(topic));
        if let Some(slot) = known.and_then(|(at, known)| known.met.get_mut(at)) {
            *slot = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amarra_messaging::{Headers, Record};
    use bytes::Bytes;

    #[test]
    fn records_follow_each_other_only_where_the_client_is_known() {
        let topic = Topic::from("things");
        let record =
            Record { key: Bytes::from_static(b"k"), headers: Headers::new(), value: Bytes::new() };
        let publish = Publish { topic: topic.clone(), record };
        let mut places = Places::default();
        let now = Instant::now();
        assert_eq!(places.of(&publish, now), (0, false));
        places.learn(&topic, 1);
        assert_eq!(places.of(&publish, now), (0, false));
        places.meet(&topic, 0);
        assert_eq!(places.of(&publish, now), (0, true));
        let later = Instant::now() + FORGOTTEN * 2;
        assert_eq!(places.of(&publish, later), (0, false), "it may be forgotten by then");
        places.strange();
        assert_eq!(places.of(&publish, later), (0, false));
    }
}
