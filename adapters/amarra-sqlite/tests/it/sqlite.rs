//! Every law of every port this crate implements.

mod bus;

use crate::backend::Sqlite;

amarra_conformance::outbox_laws!(Sqlite);
amarra_conformance::outbox_log_laws!(Sqlite);
amarra_conformance::inbox_laws!(Sqlite);
amarra_conformance::inbox_window_laws!(Sqlite);
amarra_conformance::inbox_offset_laws!(Sqlite);
amarra_conformance::parking_laws!(Sqlite);
amarra_conformance::barrier_laws!(Sqlite);
amarra_conformance::store_laws!(Sqlite);
amarra_conformance::timer_laws!(Sqlite);
amarra_conformance::read_model_laws!(Sqlite);
amarra_conformance::processor_laws!(Sqlite);
amarra_conformance::handler_laws!(Sqlite);
amarra_conformance::command_laws!(Sqlite);
