//! Every law of every port this crate implements, on both versions of the server.

macro_rules! laws {
    ($($module:ident: $version:ident),+) => {$(
        mod $module {
            use crate::backend::{AtOnce, Pg, $version};

            amarra_conformance::outbox_laws!(Pg<$version>);
            // A row whose value is drawn early and that is committed late is the relay's to find.
            amarra_conformance::outbox_log_laws!(Pg<AtOnce<$version>>);
            amarra_conformance::inbox_laws!(Pg<$version>);
            amarra_conformance::inbox_window_laws!(Pg<$version>);
            amarra_conformance::inbox_offset_laws!(Pg<$version>);
            amarra_conformance::parking_laws!(Pg<$version>);
            amarra_conformance::barrier_laws!(Pg<$version>);
            amarra_conformance::store_laws!(Pg<$version>);
            amarra_conformance::timer_laws!(Pg<$version>);
            amarra_conformance::read_model_laws!(Pg<$version>);
            amarra_conformance::processor_laws!(Pg<$version>);
            amarra_conformance::handler_laws!(Pg<$version>);
            amarra_conformance::command_laws!(Pg<$version>);
        }
    )+};
}

laws!(pg18: V18, pg15: V15);

/// The appends of units that do not keep them.
mod at_once {
    use crate::backend::{AtOnce, Pg, V18};

    amarra_conformance::outbox_laws!(Pg<AtOnce<V18>>);
}
