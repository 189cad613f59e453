//! A file of lines that are on the disk before anybody is told: the ledger of what a stand-in for a
//! foreign company did.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::refusal::Failure;

/// Entries that wait for the disk; one more waits to be let in.
const QUEUE_MAX: usize = 1024;
/// Entries that share one flush.
const BATCH_MAX: usize = 256;

/// A journal: entries in the order in which they were appended, each applied once it is on the
/// disk.
///
/// # State
/// One line of JSON an entry. A last line without its end was never answered, and is cut off.
#[derive(Debug)]
pub(crate) struct Journal<T, R> {
    queue: mpsc::Sender<(T, oneshot::Sender<R>)>,
}

impl<T, R> Clone for Journal<T, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// The entry is not in the journal: the disk is full, or the writer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written")]
pub(crate) struct Unwritten;

impl<T, R> Journal<T, R>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    R: Send + 'static,
{
    /// Opens the file at `path`, applies every entry in it in order, and every later one once it is
    /// on the disk.
    ///
    /// A failed flush ends the process: what is on the disk is then known to nobody, and the next
    /// start finds out.
    pub(crate) fn open(
        path: &Path,
        mut apply: impl FnMut(&T) -> R + Send + 'static,
    ) -> Result<Self, Failure> {
        let (mut file, end) = read(path, |entry| drop(apply(entry)))?;
        let (queue, mut entries) = mpsc::channel::<(T, oneshot::Sender<R>)>(QUEUE_MAX);
        let path = path.to_owned();
        let work = move || {
            let mut end = end;
            while let Some(first) = entries.blocking_recv() {
                let mut batch = vec![first];
                while batch.len() < BATCH_MAX
                    && let Ok(next) = entries.try_recv()
                {
                    batch.push(next);
                }
                match write(&mut file, end, batch.iter().map(|(entry, _)| entry)) {
                    Ok(written) => end = written,
                    Err(e) => {
                        crate::output::complain(&format!("{}: {e}", path.display()));
                        // Dropping the answers tells that nothing was done.
                        continue;
                    }
                }
                if let Err(e) = file.sync_data() {
                    crate::output::complain(&format!("{}: flush: {e}", path.display()));
                    std::process::exit(1);
                }
                for (entry, answer) in batch {
                    // Whoever does not wait any more asks again.
                    let _ = answer.send(apply(&entry));
                }
            }
        };
        let spawned = std::thread::Builder::new().name("journal".to_owned()).spawn(work);
        spawned.map_err(|e| Failure::refused(format!("cannot start a thread: {e}")))?;
        Ok(Self { queue })
    }

    /// Appends an entry and returns what came of it, once it is on the disk.
    ///
    /// # Cancellation
    /// The entry may be appended.
    pub(crate) async fn append(&self, entry: T) -> Result<R, Unwritten> {
        let (answer, answered) = oneshot::channel();
        self.queue.send((entry, answer)).await.map_err(|_| Unwritten)?;
        answered.await.map_err(|_| Unwritten)
    }
}

/// Reads every whole line, cuts off what follows the last one, and returns the file and its length.
fn read<T: DeserializeOwned>(
    path: &Path,
    mut apply: impl FnMut(&T),
) -> Result<(File, u64), Failure> {
    let refuse = |why: String| Failure::refused(format!("{}: {why}", path.display()));
    let io = |e: std::io::Error| refuse(e.to_string());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(io)?;
    let locked = file.try_lock();
    locked.map_err(|_| refuse("in use by another process: stop it first".to_owned()))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at.saturating_add(1));
    let lines = bytes.get(..whole).unwrap_or_default().split(|b| *b == b'\n');
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let entry = serde_json::from_slice(line).map_err(|_| {
            let number = number.saturating_add(1);
            refuse(format!("line {number} is damaged: restore the file from a backup"))
        })?;
        apply(&entry);
    }
    let end = u64::try_from(whole).unwrap_or(u64::MAX);
    file.set_len(end).map_err(io)?;
    file.seek(SeekFrom::Start(end)).map_err(io)?;
    Ok((file, end))
}

/// Lists the entries of a journal without opening it for writing.
pub(crate) fn entries<T: DeserializeOwned>(path: &PathBuf) -> Result<Vec<T>, Failure> {
    let refuse = |why: String| Failure::refused(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
    let whole = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let lines = text.get(..whole).unwrap_or_default().lines();
    lines.map(|line| serde_json::from_str(line).map_err(|e| refuse(e.to_string()))).collect()
}

/// Writes lines at the end; what could be written of them only in part is cut off again.
fn write<'a, T: Serialize + 'a>(
    file: &mut File,
    end: u64,
    entries: impl Iterator<Item = &'a T>,
) -> std::io::Result<u64> {
    let mut bytes = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry)?;
        bytes.push(b'\n');
    }
    if let Err(e) = file.write_all(&bytes) {
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        return Err(e);
    }
    Ok(end.saturating_add(u64::try_from(bytes.len()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("amarra-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn open(path: &Path) -> (Journal<u32, usize>, Arc<Mutex<Vec<u32>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let journal = Journal::open(path, {
            let seen = Arc::clone(&seen);
            move |n: &u32| {
                let mut seen = seen.lock().unwrap();
                seen.push(*n);
                seen.len()
            }
        });
        (journal.unwrap(), seen)
    }

    #[tokio::test]
    async fn a_torn_last_line_is_cut_off_and_everything_before_it_kept() {
        let folder = folder("journal-torn");
        let path = folder.join("journal");
        std::fs::write(&path, "7\n8\n9").unwrap();
        let (journal, seen) = open(&path);
        assert_eq!(*seen.lock().unwrap(), [7, 8]);
        assert_eq!(journal.append(10).await, Ok(3));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7\n8\n10\n");
        assert_eq!(entries::<u32>(&path).unwrap(), [7, 8, 10]);
        let second = Journal::<u32, ()>::open(&path, |_| ());
        assert!(second.unwrap_err().to_string().contains("in use"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_line_is_refused_by_its_number() {
        let folder = folder("journal-damaged");
        let path = folder.join("journal");
        std::fs::write(&path, "7\nx\n9\n").unwrap();
        let error = Journal::<u32, ()>::open(&path, |_| ()).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
