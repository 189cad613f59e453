//! Every law of `Consumer`, and what only a real Kafka shows of it.

mod flow;
mod foreign;
mod lag;
mod membership;
mod outage;
mod raw;
mod reading;
mod server;
mod work;

mod classic {
    use super::server::{Classic, Group};

    amarra_conformance::consumer_laws!(Group<Classic>);
}

mod broker_side {
    use super::server::{BrokerSide, Group};

    amarra_conformance::consumer_laws!(Group<BrokerSide>);
}
