//! What a member holds and has to be told, without the library and its threads.

use std::collections::{BTreeMap, VecDeque};

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Delivery;
use amarra_messaging::{Offset, Polled};

use super::context::Partitions;
use super::lane::{Bounds, Lane};

/// The partitions of a member, what its caller was told of them, and what the library is to do.
///
/// # State
/// A lane is told once `Assigned` was handed out, and gone once `Revoked` was: what lies between
/// the two is what the caller may read and commit.
#[derive(Debug)]
pub(super) struct State {
    lanes: BTreeMap<TopicPartition, Lane>,
    news: VecDeque<News>,
    orders: Vec<Order>,
    bounds: Bounds,
    /// Grows with every assignment and every seek.
    numbers: u64,
    /// Which lane the next poll starts with.
    turn: usize,
    fault: Option<String>,
    /// Why nothing will ever come again.
    end: Option<String>,
}

#[derive(Debug)]
enum News {
    Assigned(Vec<(TopicPartition, u64)>),
    /// With what the library is to be told once the caller was, none when it forgot by itself.
    Revoked(Vec<(TopicPartition, u64)>, Option<Partitions>),
}

/// What the thread is to do with the library.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Seek { partition: TopicPartition, offset: Offset, number: u64 },
    Resume(TopicPartition),
    Unassign(Partitions),
}

/// How much may be taken from the library.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) records: usize,
    /// Partitions that are to be fetched no more for now.
    pub(super) hold: Vec<TopicPartition>,
}

impl State {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            lanes: BTreeMap::new(),
            news: VecDeque::new(),
            orders: Vec::new(),
            bounds,
            numbers: 0,
            turn: 0,
            fault: None,
            end: None,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.numbers = self.numbers.saturating_add(1);
        self.numbers
    }

    pub(super) fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Tells whether the caller holds a partition, as far as it knows.
    pub(super) fn holds(&self, partition: &TopicPartition) -> bool {
        self.lanes.get(partition).is_some_and(|lane| lane.told)
    }

    /// Takes what comes next for the caller: what it holds, then records, then what went wrong.
    pub(super) fn take(&mut self, limit: usize) -> Result<Option<Polled>, String> {
        if let Some(news) = self.news.pop_front() {
            return Ok(Some(self.tell(news)));
        }
        let records = self.take_records(limit.max(1));
        if !records.is_empty() {
            self.let_flow();
            return Ok(Some(Polled::Records(records)));
        }
        match self.fault.take().or_else(|| self.end.clone()) {
            Some(why) => Err(why),
            None => Ok(None),
        }
    }

    fn tell(&mut self, news: News) -> Polled {
        let only = |named: Vec<(TopicPartition, u64)>| named.into_iter().map(|(p, _)| p).collect();
        match news {
            News::Assigned(named) => {
                for (partition, epoch) in &named {
                    if let Some(lane) = self.lanes.get_mut(partition) {
                        lane.told |= lane.epoch == *epoch;
                    }
                }
                Polled::Assigned(only(named))
            }
            News::Revoked(named, native) => {
                for (partition, epoch) in &named {
                    if self.lanes.get(partition).is_some_and(|lane| lane.epoch == *epoch) {
                        self.lanes.remove(partition);
                    }
                }
                self.orders.extend(native.map(Order::Unassign));
                Polled::Revoked(only(named))
            }
        }
    }

    /// Takes from each lane in turn, so that a busy partition does not starve the others.
    fn take_records(&mut self, limit: usize) -> Vec<Delivery> {
        let mut records = Vec::new();
        let mut ready: Vec<_> = self.lanes.values_mut().filter(|lane| lane.is_ready()).collect();
        let turn = self.turn.checked_rem(ready.len()).unwrap_or(0);
        self.turn = turn.saturating_add(1);
        ready.rotate_left(turn);
        for lane in ready {
            lane.take(limit.saturating_sub(records.len()), self.bounds, &mut records);
        }
        records
    }

    /// Lets the library fetch again what it was told not to and is wanted now.
    fn let_flow(&mut self) {
        for (partition, lane) in &mut self.lanes {
            if lane.held && !lane.paused && lane.is_low(self.bounds) {
                lane.held = false;
                self.orders.push(Order::Resume(partition.clone()));
            }
        }
    }

    pub(super) fn pause(&mut self, partition: &TopicPartition) {
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.paused = true;
        }
    }

    pub(super) fn resume(&mut self, partition: &TopicPartition) {
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.paused = false;
            self.let_flow();
        }
    }

    pub(super) fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        let number = self.next_number();
        let lane = self.lanes.get_mut(partition).filter(|lane| !lane.revoked);
        if let Some(lane) = lane
            && !lane.seek(offset.0)
        {
            lane.seeking = Some(number);
            let partition = partition.clone();
            self.orders.push(Order::Seek { partition, offset, number });
            self.let_flow();
        }
    }

    /// Tells whether a seek is still wanted.
    pub(super) fn is_seeking(&self, partition: &TopicPartition, number: u64) -> bool {
        let lane = self.lanes.get(partition);
        lane.is_some_and(|lane| lane.seeking == Some(number) && !lane.revoked)
    }

    /// Ends a seek, unless another followed.
    pub(super) fn sought(&mut self, partition: &TopicPartition, number: u64) {
        if let Some(lane) = self.lanes.get_mut(partition)
            && lane.seeking == Some(number)
        {
            lane.seeking = None;
        }
    }

    /// Tells how much may be taken from the library.
    ///
    /// A full lane stops it, since nothing says whose record comes next. One that its caller wants
    /// nothing of is held instead while a poll waits for the others; and every one is when the
    /// library is `overdue`, because it expels a member that does not poll it.
    pub(super) fn room(&mut self, waiting: bool, overdue: bool) -> Room {
        let mut room = Room { records: self.bounds.records, hold: Vec::new() };
        for (partition, lane) in &mut self.lanes {
            let left = lane.room(self.bounds);
            if left == 0 && !lane.held && (overdue || lane.paused && waiting) {
                lane.held = true;
                room.hold.push(partition.clone());
            }
            if !lane.held && !lane.revoked {
                room.records = room.records.min(left);
            }
        }
        room
    }

    pub(super) fn push(&mut self, delivery: Delivery) {
        let (topic, partition) = (delivery.topic.clone(), delivery.partition);
        if let Some(lane) = self.lanes.get_mut(&TopicPartition { topic, partition }) {
            lane.push(delivery);
        }
    }

    pub(super) fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        let epoch = self.next_number();
        let named: Vec<_> = partitions.into_iter().map(|partition| (partition, epoch)).collect();
        for (partition, epoch) in &named {
            self.lanes.insert(partition.clone(), Lane::new(*epoch));
        }
        self.news.push_back(News::Assigned(named));
    }

    /// Ends lanes; the library hears of it once the caller did.
    pub(super) fn revoked(&mut self, partitions: &[TopicPartition], native: Partitions) {
        let named = self.end_lanes(|partition, _| partitions.contains(partition));
        self.news.push_back(News::Revoked(named, Some(native)));
    }

    /// Ends every lane; the library forgot them by itself.
    pub(super) fn lost(&mut self) {
        self.orders.retain(|order| !matches!(order, Order::Unassign(_)));
        for news in &mut self.news {
            if let News::Revoked(_, native) = news {
                *native = None;
            }
        }
        let named = self.end_lanes(|_, lane| !lane.revoked);
        // Whatever commits next is another member: it must not commit for the one that was.
        self.lanes.values_mut().for_each(|lane| lane.told = false);
        if !named.is_empty() {
            self.news.push_back(News::Revoked(named, None));
        }
    }

    fn end_lanes(
        &mut self,
        which: impl Fn(&TopicPartition, &Lane) -> bool,
    ) -> Vec<(TopicPartition, u64)> {
        let mut named = Vec::new();
        for (partition, lane) in &mut self.lanes {
            if which(partition, lane) {
                lane.revoked = true;
                lane.drop_records();
                named.push((partition.clone(), lane.epoch));
            }
        }
        named
    }

    /// Lets the next poll that finds nothing else fail.
    pub(super) fn fail(&mut self, why: String) {
        self.fault = Some(why);
    }

    /// Lets every poll from now on fail that finds nothing else.
    pub(super) fn end(&mut self, why: &str) {
        self.end.get_or_insert_with(|| why.to_owned());
    }
}

#[cfg(test)]
mod tests;
