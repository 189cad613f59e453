//! Figures read from the syntax tree: functions, documentation, panics, select.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Figure, Source};

const FUNCTION_LINES_MAX: usize = 70;

/// Measures the figures.
pub(crate) fn figures(sources: &[Source]) -> Result<Vec<Figure>, String> {
    let mut all = Findings::default();
    for source in sources.iter().filter(|s| s.is_rust()) {
        let file = syn::parse_file(&source.text)
            .map_err(|e| format!("{} does not parse: {e}", source.name()))?;
        let mut walk = Walk::new(source);
        walk.visit_file(&file);
        all.merge(walk.found);
        all.unbiased.extend(unbiased_selects(source));
        all.unrun.extend(unrun_doc_tests(source));
    }
    let documented = all.public.saturating_sub(all.undocumented.len());
    let percent = documented.saturating_mul(100).checked_div(all.public).unwrap_or(100);
    Ok(vec![
        Figure::none("functions over 70 lines", all.long),
        Figure::at_least(
            "public items documented, percent",
            u64::try_from(percent).unwrap_or(0),
            100,
            all.undocumented.clone(),
        ),
        Figure::none("undocumented public items", all.undocumented),
        Figure::none("doc-tests not run in crates/", all.unrun),
        Figure::none("unwrap or expect outside tests", all.unwraps),
        Figure::none("ignored tests", all.ignored),
        Figure::none("select! without biased;", all.unbiased),
    ])
}

#[derive(Debug, Default)]
struct Findings {
    long: Vec<String>,
    public: usize,
    undocumented: Vec<String>,
    unwraps: Vec<String>,
    ignored: Vec<String>,
    unbiased: Vec<String>,
    unrun: Vec<String>,
}

impl Findings {
    fn merge(&mut self, other: Self) {
        self.long.extend(other.long);
        self.public += other.public;
        self.undocumented.extend(other.undocumented);
        self.unwraps.extend(other.unwraps);
        self.ignored.extend(other.ignored);
    }
}

struct Walk<'a> {
    source: &'a Source,
    in_test: bool,
    found: Findings,
}

impl<'a> Walk<'a> {
    fn new(source: &'a Source) -> Self {
        Self { source, in_test: source.is_test(), found: Findings::default() }
    }

    fn place(&self, node: &impl Spanned, what: &str) -> String {
        format!("{}:{} {what}", self.source.path.display(), node.span().start().line)
    }

    fn function(&mut self, attributes: &[syn::Attribute], node: &impl Spanned, name: &syn::Ident) {
        let lines = node.span().end().line.saturating_sub(node.span().start().line) + 1;
        let is_table = attributes.iter().any(excuses_length);
        if lines > FUNCTION_LINES_MAX && !self.in_test && !is_table {
            self.found.long.push(self.place(name, &format!("{name}: {lines} lines")));
        }
        if attributes.iter().any(|a| a.path().is_ident("ignore")) {
            self.found.ignored.push(self.place(name, &name.to_string()));
        }
    }

    fn public(
        &mut self,
        visibility: &syn::Visibility,
        attributes: &[syn::Attribute],
        at: &syn::Ident,
    ) {
        let is_library =
            self.source.path.starts_with("crates") || self.source.path.starts_with("adapters");
        if self.in_test || !is_library || !matches!(visibility, syn::Visibility::Public(_)) {
            return;
        }
        self.found.public += 1;
        let is_documented = attributes.iter().any(|a| a.path().is_ident("doc"));
        if !is_documented {
            self.found.undocumented.push(self.place(at, &at.to_string()));
        }
    }

    fn within(&mut self, attributes: &[syn::Attribute], walk: impl FnOnce(&mut Self)) {
        let before = self.in_test;
        self.in_test |= attributes.iter().any(is_test_marker);
        walk(self);
        self.in_test = before;
    }
}

fn is_test_marker(attribute: &syn::Attribute) -> bool {
    let path = attribute.path();
    path.is_ident("test") || (path.is_ident("cfg") && says(attribute, "test"))
}

/// A function that is one long table says so in an `expect` with a reason.
fn excuses_length(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("expect")
        && says(attribute, "too_many_lines")
        && says(attribute, "reason")
}

fn says(attribute: &syn::Attribute, word: &str) -> bool {
    matches!(&attribute.meta, syn::Meta::List(l) if l.tokens.to_string().contains(word))
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(&item.attrs, |walk| visit::visit_item_mod(walk, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.attrs, item, &item.sig.ident);
        self.public(&item.vis, &item.attrs, &item.sig.ident);
        self.within(&item.attrs, |walk| visit::visit_item_fn(walk, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.within(&item.attrs, |walk| visit::visit_item_impl(walk, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.attrs, item, &item.sig.ident);
        self.public(&item.vis, &item.attrs, &item.sig.ident);
        self.within(&item.attrs, |walk| visit::visit_impl_item_fn(walk, item));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.public(&item.vis, &item.attrs, &item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.public(&item.vis, &item.attrs, &item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.public(&item.vis, &item.attrs, &item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.public(&item.vis, &item.attrs, &item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.public(&field.vis, &field.attrs, ident);
        }
        visit::visit_field(self, field);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        let takes_message = call.args.len() == 1 && name == "expect";
        if (takes_message || (name == "unwrap" && call.args.is_empty())) && !self.in_test {
            self.found.unwraps.push(self.place(&call.method, &name));
        }
        visit::visit_expr_method_call(self, call);
    }
}

fn unbiased_selects(source: &Source) -> Vec<String> {
    if source.path.starts_with("crates/xtask") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if !code.contains("select! {") && !code.contains("select!{") {
            continue;
        }
        let next = lines.get(index + 1).map_or("", |l| l.trim());
        if !code.contains("biased;") && !next.starts_with("biased;") {
            found.push(format!("{}:{}", source.path.display(), index + 1));
        }
    }
    found
}

fn unrun_doc_tests(source: &Source) -> Vec<String> {
    if !source.path.starts_with("crates") || source.path.starts_with("crates/xtask") {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    let is_fence = |line: &str| {
        let text = line.trim_start().trim_start_matches("//!").trim_start_matches("///").trim();
        text.starts_with("```ignore")
            || text.starts_with("```no_run")
            || text.starts_with("```rust,ignore")
    };
    lines
        .filter(|(_, line)| is_fence(line))
        .map(|(index, _)| format!("{}:{}", source.path.display(), index + 1))
        .collect()
}
