//! A law's behaviour by name, and the macro that turns a table of them into a suite.

/// One behaviour that a law demands, and the test that checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Law {
    /// The port whose rustdoc states the law.
    pub port: &'static str,
    /// The law's id there: `OBL-3`.
    pub law: &'static str,
    /// The test's name.
    pub name: &'static str,
}

/// Declares a suite: its `LAWS` table, `check` by name, and the exported macro that expands to one
/// `#[test]` per behaviour, so that no backend can leave one out.
///
/// The first token is a dollar sign, which the exported macro needs and no other way can give it.
macro_rules! suite {
    (
        ($d:tt) $(#[$meta:meta])* $suite:ident in $module:ident for $backend:ident {
            $($port:ident: $($law:literal $name:ident),+ $(,)?;)+
        }
    ) => {
        /// The behaviours of this suite.
        pub const LAWS: &[$crate::law::Law] = &[$($($crate::law::Law {
            port: stringify!($port),
            law: $law,
            name: stringify!($name),
        },)+)+];

        /// Checks one behaviour by name; `false` when this suite has none of that name.
        pub fn check<B: $backend>(name: &str) -> bool {
            match name {
                $($(stringify!($name) => B::run($name),)+)+
                _ => return false,
            }
            true
        }

        $(#[$meta])*
        #[macro_export]
        macro_rules! $suite {
            ($d backend:ty) => {$($(
                #[test]
                fn $name() {
                    <$d backend as $crate::Backend>::run($crate::$module::$name);
                }
            )+)+};
        }
    };
}
pub(crate) use suite;
