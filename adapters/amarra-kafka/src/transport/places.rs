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
    each: Vec<Place>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// When the client in hand last sent to it; none before the broker stored a first record of it
    /// there.
    met: Option<Instant>,
    /// Bytes of the window in hand that go there.
    bytes: usize,
}

impl Partitions {
    fn at(&mut self, partition: u32) -> Option<&mut Place> {
        usize::try_from(partition).ok().and_then(|at| self.each.get_mut(at))
    }
}

impl Places {
    /// Tells whether the number of a topic's partitions is known.
    pub(super) fn knows(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    /// Notes how many partitions a topic has.
    pub(super) fn learn(&mut self, topic: &Topic, partitions: usize) {
        let count = u32::try_from(partitions).unwrap_or(u32::MAX);
        let each = vec![Place::default(); partitions];
        self.topics.insert(topic.clone(), Partitions { count, each });
    }

    /// Forgets every topic.
    pub(super) fn forget(&mut self) {
        self.topics.clear();
    }

    /// Notes that the client in hand is a new one, which no broker knows.
    pub(super) fn strange(&mut self) {
        for place in self.topics.values_mut().flat_map(|known| &mut known.each) {
            place.met = None;
        }
    }

    /// Begins a window: nothing is on its way to anywhere.
    pub(super) fn begin(&mut self) {
        for place in self.topics.values_mut().flat_map(|known| &mut known.each) {
            place.bytes = 0;
        }
    }

    /// Tells whether a record fits into the window's one batch of its partition, and counts it.
    ///
    /// librdkafka has one batch of a partition on its way at a time, and its thread looks over and
    /// over while another one waits. The first record always fits.
    pub(super) fn fits(&mut self, publish: &Publish, bytes: usize, batch: usize) -> bool {
        let Some(known) = self.topics.get_mut(&publish.topic) else { return true };
        let partition = choose(&publish.record.key, known.count).unwrap_or(0);
        let Some(place) = known.at(partition) else { return true };
        let sum = place.bytes.saturating_add(bytes);
        let fits = place.bytes == 0 || sum <= batch;
        place.bytes = sum;
        fits
    }

    /// Chooses a record's partition, and tells whether records may follow each other there.
    pub(super) fn of(&mut self, publish: &Publish, now: Instant) -> (u32, bool) {
        let Some(known) = self.topics.get_mut(&publish.topic) else { return (0, false) };
        let partition = choose(&publish.record.key, known.count).unwrap_or(0);
        let met = known.at(partition).and_then(|place| place.met.as_mut()).is_some_and(|last| {
            let fresh = now.saturating_duration_since(*last) < FORGOTTEN;
            *last = now;
            fresh
        });
        (partition, met)
    }

    /// Notes that the broker stored a record of the client in hand in a partition.
    pub(super) fn meet(&mut self, topic: &Topic, partition: u32) {
        if let Some(place) = self.topics.get_mut(topic).and_then(|known| known.at(partition)) {
            place.met = Some(Instant::now());
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

    #[test]
    fn a_window_has_one_batch_of_a_partition() {
        let topic = Topic::from("things");
        let record =
            Record { key: Bytes::from_static(b"k"), headers: Headers::new(), value: Bytes::new() };
        let publish = Publish { topic: topic.clone(), record };
        let mut places = Places::default();
        places.learn(&topic, 1);
        let fits = |places: &mut Places, bytes| places.fits(&publish, bytes, 10);
        assert!(fits(&mut places, 4) && fits(&mut places, 6) && !fits(&mut places, 1));
        places.begin();
        assert!(fits(&mut places, 11), "a record that is larger than a batch goes alone");
        assert!(!fits(&mut places, 1));
    }
}
