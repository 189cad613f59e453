//! The inbox of a unit with the defect of its test.

use amarra_messaging::message::{Incoming, Offset, Partition, Turn};
use amarra_messaging::{Admit, Group, Inbox, TxError};
use async_trait::async_trait;

use super::Defect;
use super::unit::BrokenUnit;

#[async_trait]
impl Inbox for BrokenUnit {
    async fn admit(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError> {
        let (mut group, mut message) = (group.clone(), message.clone());
        match self.defect {
            Defect::InboxIsAlwaysFresh => return Ok(Admit::Fresh),
            Defect::InboxForgetsTheGroup => group = Group::from("all"),
            Defect::InboxAdmitsOutsideTheTransaction => {
                let mut beside = self.beside().await?;
                let admitted = beside.admit(&group, &message).await?;
                beside.commit().await?;
                return Ok(admitted);
            }
            Defect::InboxIsAskedByOffset => {
                message.envelope.id = uuid::Uuid::from_u128(u128::from(message.offset.0)).into();
            }
            Defect::InboxKeepsTheHighestPosition => {
                if let Some(position) = &message.position {
                    message.offset = Offset(position.pos.0);
                    group = Group::from(group.as_str().replace("position", "offset").as_str());
                }
            }
            Defect::InboxForgetsThePartition => message.partition = Partition(0),
            Defect::InboxIgnoresTheTurn => message.turn = Turn::InOrder,
            Defect::InboxForgetsItsRows if message.turn == Turn::InOrder => {
                message.envelope.id = self.env.new_id();
            }
            _ => {}
        }
        match (self.defect, self.inner.admit(&group, &message).await?) {
            (Defect::InboxHidesGaps, Admit::Gap { .. }) => Ok(Admit::Fresh),
            (Defect::InboxTakesGapsForDuplicates, Admit::Gap { .. }) => Ok(Admit::Duplicate),
            (_, admit) => Ok(admit),
        }
    }
}
