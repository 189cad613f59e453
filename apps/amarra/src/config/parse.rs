//! Reads a configuration strictly: a key nobody knows is refused, with the nearest one known.

use std::path::Path;

use crate::config::Config;
use crate::refusal::{Failure, Refuse};

/// Largest configuration that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads the configuration in a file.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let shown = path.display().to_string();
    let size = std::fs::metadata(path).refuse_for(&shown)?.len();
    if size > CONFIG_BYTES_MAX {
        return Err(Failure::refused(format!("{shown}: longer than {CONFIG_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).refuse_for(&shown)?;
    let mut config = parse(&text).map_err(|why| Failure::refused(format!("{shown}: {why}")))?;
    config.folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    config.validate().map_err(|why| Failure::refused(format!("{shown}: {why}")))?;
    Ok(config)
}

/// Reads the text of a configuration; the error never repeats a value of it.
fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or_default();
            before.bytes().filter(|b| *b == b'\n').count().saturating_add(1)
        });
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{place}{}", explain(error.message()))
    })
}

/// Says what is wrong, and for an unknown key which known one is nearest to it.
fn explain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.lines().next().unwrap_or_default().to_owned();
    };
    let mut quoted = rest.split('`').step_by(2);
    let key = quoted.next().unwrap_or_default();
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    let near = nearest(key, known.iter().copied());
    let hint = near.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
    format!("unknown key {key}{hint} Known here: {}", known.join(", "))
}

/// Returns the known word nearest to another one, none when all are far.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = word.len().div_ceil(2).max(2);
    let near = known.map(|k| (distance(word, k), k)).min()?;
    (near.0 <= far).then_some(near.1)
}

/// Counts the single-character edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (j, to) in b.iter().enumerate() {
            let above = row.get(j.saturating_add(1)).copied().unwrap_or(usize::MAX);
            let swapped = diagonal.saturating_add(usize::from(from != *to));
            left = swapped.min(above.saturating_add(1)).min(left.saturating_add(1));
            next.push(left);
            diagonal = above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        let check = |text: &str, expect: &[&str]| {
            let error = parse(text).unwrap_err();
            for part in expect {
                assert!(error.contains(part), "{error:?} does not say {part:?}");
            }
        };
        check("[kafka]\nbootsrap = \"x\"", &["line 2", "bootsrap", "did you mean bootstrap?"]);
        check("[gateways]\n", &["gateways", "did you mean gateway?"]);
        check("[relay]\nlease = 3", &["line 2", "duration"]);
        check("[kafka\n", &["line 1"]);
    }

    #[test]
    fn what_stands_in_a_wrong_line_is_not_repeated() {
        let error = parse("[keys]\ntoken_sed = \"hunter2\"").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn distances_count_single_edits() {
        let check = |a: &str, b: &str, expect| assert_eq!(distance(a, b), expect, "{a} {b}");
        check("", "", 0);
        check("abc", "", 3);
        check("kitten", "sitting", 3);
        check("bootsrap", "bootstrap", 1);
        assert_eq!(nearest("xyzzy", ["lease", "poll"].into_iter()), None);
    }
}
