//! Every law of every port this crate implements, and of the engines over its store.

pub(crate) mod backend;

use backend::Memory;

amarra_conformance::clock_laws!(Memory);
amarra_conformance::entropy_laws!(Memory);
amarra_conformance::outbox_laws!(Memory);
amarra_conformance::outbox_log_laws!(Memory);
amarra_conformance::inbox_laws!(Memory);
amarra_conformance::inbox_window_laws!(Memory);
amarra_conformance::inbox_offset_laws!(Memory);
amarra_conformance::parking_laws!(Memory);
amarra_conformance::barrier_laws!(Memory);
amarra_conformance::store_laws!(Memory);
amarra_conformance::timer_laws!(Memory);
amarra_conformance::read_model_laws!(Memory);
amarra_conformance::transport_laws!(Memory);
amarra_conformance::consumer_laws!(Memory);
amarra_conformance::processor_laws!(Memory);
amarra_conformance::handler_laws!(Memory);
amarra_conformance::command_laws!(Memory);
