//! Where a secret is: in a file or in an environment variable, never in the configuration itself.

use std::fmt;
use std::path::{Path, PathBuf};

use amarra_shop::contract::users::Secret;
use serde::Deserialize;

use crate::refusal::Failure;

/// Longest secret that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Names where a secret is: `{ file = "PATH" }` or `{ env = "NAME" }`.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Source {
    /// A file that holds it, relative to the configuration's folder. White space at its end is not
    /// part of it.
    pub(crate) file: Option<PathBuf>,
    /// An environment variable that holds it.
    pub(crate) env: Option<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.env) {
            (Some(file), _) => write!(f, "file {}", file.display()),
            (None, Some(env)) => write!(f, "environment variable {env}"),
            (None, None) => f.write_str("nowhere"),
        }
    }
}

impl Source {
    /// Makes the source of a file.
    pub(crate) fn of_file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), env: None }
    }

    /// Reads the secret; `key` is what the configuration calls it, `folder` where it is.
    pub(crate) fn read(&self, key: &str, folder: &Path) -> Result<Secret, Failure> {
        let text = match (&self.file, &self.env) {
            (Some(file), None) => {
                let path = folder.join(file);
                let failed = |why: String| {
                    let path = path.display();
                    Failure::refused(format!("{key}: cannot read {path}: {why}"))
                };
                let size = std::fs::metadata(&path).map_err(|e| failed(e.to_string()))?.len();
                if size > SECRET_BYTES_MAX {
                    return Err(failed(format!("it is longer than {SECRET_BYTES_MAX} bytes")));
                }
                std::fs::read_to_string(&path).map_err(|e| failed(e.to_string()))?
            }
            (None, Some(name)) => std::env::var(name).map_err(|e| {
                Failure::refused(format!("{key}: environment variable {name}: {e}"))
            })?,
            _ => {
                let why = "name one of file and env, as in { file = \"PATH\" }";
                return Err(Failure::refused(format!("{key}: {why}")));
            }
        };
        let text = text.trim_end();
        if text.is_empty() {
            return Err(Failure::refused(format!("{key}: {self:?} is empty")));
        }
        Ok(Secret::new(text))
    }
}
