//! Figures read from lines: sizes, widths, first sentences, machine paths.

use super::{Figure, Source};

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;

/// Measures the figures.
pub(crate) fn figures(sources: &[Source]) -> Vec<Figure> {
    let rust = || sources.iter().filter(|s| s.is_rust());
    let long = rust().filter(|s| s.text.lines().count() > LINES_MAX).map(Source::name).collect();
    let silent = rust().filter(|s| !opens_with_sentence(&s.text)).map(Source::name).collect();
    let wide = rust().flat_map(wide_lines).collect();
    let cfg = rust().flat_map(stray_cfg).collect();
    vec![
        Figure::none("files over 600 lines", long),
        Figure::none("files without an opening sentence", silent),
        Figure::none("lines over 100 columns", wide),
        Figure::none("cfg(madsim) outside sim", cfg),
        Figure::none("machine paths", sources.iter().flat_map(machine_paths).collect()),
        Figure::none("unfinished work", rust().flat_map(unfinished).collect()),
    ]
}

fn opens_with_sentence(text: &str) -> bool {
    ["//! ", "#![doc = include_str!(\"../README.md\")]", "#![doc = include_str!(\"../docs.md\")]"]
        .iter()
        .any(|opening| text.starts_with(opening))
}

fn places<'a>(
    source: &'a Source,
    is_bad: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = String> + 'a {
    let lines = source.text.lines().enumerate().filter(move |(_, line)| is_bad(line));
    lines.map(|(index, _)| format!("{}:{}", source.path.display(), index + 1))
}

fn wide_lines(source: &Source) -> Vec<String> {
    places(source, |line| line.chars().count() > COLUMNS_MAX && !line.contains("://")).collect()
}

fn stray_cfg(source: &Source) -> Vec<String> {
    if source.path.starts_with("sim") || source.path.starts_with("crates/xtask") {
        return Vec::new();
    }
    places(source, |line| line.contains("cfg(madsim)") || line.contains("cfg(not(madsim))"))
        .collect()
}

fn machine_paths(source: &Source) -> Vec<String> {
    if source.path.ends_with("Cargo.lock") || source.path.starts_with("crates/xtask/src/tidy") {
        return Vec::new();
    }
    let roots = ["/home/", "/root/", "/work/", "/tmp/", "/Users/"];
    places(source, move |line| {
        let mut starts = roots.iter().filter_map(|root| Some((line.find(root)?, root)));
        starts.any(|(at, _)| {
            let before = line.get(..at).and_then(|b| b.chars().next_back());
            before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '$' | '_' | '}' | '/'))
        })
    })
    .collect()
}

fn unfinished(source: &Source) -> Vec<String> {
    if source.path.starts_with("crates/xtask/src/tidy") {
        return Vec::new();
    }
    let words = ["todo!(", "unimplemented!(", "FIXME", "TODO", "XXX"];
    places(source, move |line| words.iter().any(|w| line.contains(w))).collect()
}
