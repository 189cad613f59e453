//! Outgoing calls: a port of the outside is held by nothing but a `Callee`, and the client by
//! nothing but adapters.

use std::collections::BTreeSet;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Figure, Source};

/// Where the services are: every async trait in there is a port of the outside.
const SHOP: &str = "crates/amarra-shop/src";
/// Who holds a port behind its guards.
const GUARDED: &str = "Callee";
/// The pooled client.
const CLIENT: &str = "HttpClient";
/// Where the client and the adapters on it are.
const HTTP: &str = "adapters/amarra-http/src";
/// Where they are put together.
const APP: &str = "apps/amarra/src";
/// Customers at a rate: they are outside of the shop.
const CUSTOMERS: &str = "apps/amarra/src/load";
/// Files of the program that may make the client or hand it on.
const CLIENT_FILES: [&str; 4] = [
    "apps/amarra/src/admin/inbox.rs",
    "apps/amarra/src/compose/mod.rs",
    "apps/amarra/src/embedded/mod.rs",
    "apps/amarra/src/serve.rs",
];
/// Connections that no client of ours opened.
const RAW: [&str; 3] = ["TcpStream::connect", "UnixStream::connect", "client::conn::http1"];
/// Files that open them for the client.
const RAW_FILES: [&str; 2] =
    ["adapters/amarra-http/src/client.rs", "adapters/amarra-http/src/net/connect.rs"];

/// Measures the figures.
pub(crate) fn figures(sources: &[Source]) -> Result<Vec<Figure>, String> {
    let mut files = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust() && !s.is_test() && is_shop(s)) {
        let file = syn::parse_file(&source.text)
            .map_err(|e| format!("{} does not parse: {e}", source.name()))?;
        files.push((source, file));
    }
    let mut ports = BTreeSet::new();
    for (_, file) in files.iter().filter(|(source, _)| source.path.starts_with(SHOP)) {
        ports.extend(file.items.iter().filter_map(port));
    }
    if ports.is_empty() {
        return Err(format!("no port of the outside in {SHOP}: the check looks at nothing"));
    }
    let mut found = Vec::new();
    for (source, file) in &files {
        let mut walk = Walk { source, ports: &ports, decorates: decorated(file), found: vec![] };
        walk.visit_file(file);
        found.extend(walk.found);
        found.extend(raw(source));
    }
    Ok(vec![Figure::none("outgoing calls past the guards", found)])
}

fn is_shop(source: &Source) -> bool {
    let path = &source.path;
    let inside = path.starts_with(SHOP) || path.starts_with(HTTP) || path.starts_with(APP);
    inside && !path.starts_with(CUSTOMERS)
}

/// Returns the name of an async trait.
fn port(item: &syn::Item) -> Option<String> {
    let syn::Item::Trait(item) = item else { return None };
    let is_async = item.attrs.iter().any(|a| a.path().is_ident("async_trait"));
    is_async.then(|| item.ident.to_string())
}

/// Returns which type of a file implements which port: such a type may hold another one of it, or
/// the client.
fn decorated(file: &syn::File) -> BTreeSet<(String, String)> {
    let pair = |item: &syn::Item| {
        let syn::Item::Impl(item) = item else { return None };
        let (path, _) = item.trait_.as_ref()?;
        let syn::Type::Path(own) = item.self_ty.as_ref() else { return None };
        Some((last(&own.path)?, last(path)?))
    };
    file.items.iter().filter_map(pair).collect()
}

fn last(path: &syn::Path) -> Option<String> {
    path.segments.last().map(|segment| segment.ident.to_string())
}

struct Walk<'a> {
    source: &'a Source,
    ports: &'a BTreeSet<String>,
    decorates: BTreeSet<(String, String)>,
    found: Vec<String>,
}

impl Walk<'_> {
    fn report(&mut self, at: &impl Spanned, what: &str) {
        let line = at.span().start().line;
        self.found.push(format!("{}:{line} {what}", self.source.path.display()));
    }

    /// Looks at the fields of a type.
    fn fields(&mut self, owner: &syn::Ident, fields: &syn::Fields) {
        let owner = owner.to_string();
        for field in fields {
            let mut named = Named::default();
            named.visit_type(&field.ty);
            for port in named.unguarded.iter().filter(|name| self.ports.contains(*name)) {
                if !self.decorates.contains(&(owner.clone(), port.clone())) && owner != GUARDED {
                    self.report(field, &format!("{owner} holds {port} without a {GUARDED}"));
                }
            }
            let ports = self.ports;
            let adapts = self.decorates.iter().any(|(o, p)| *o == owner && ports.contains(p));
            if named.client && !adapts && !self.may_hold_client() {
                self.report(field, &format!("{owner} holds an {CLIENT} and is no adapter"));
            }
        }
    }

    fn may_hold_client(&self) -> bool {
        CLIENT_FILES.iter().any(|file| self.source.path.ends_with(file))
    }

    /// Looks at what an async function is given: it could call it.
    fn signature(&mut self, signature: &syn::Signature) {
        if signature.asyncness.is_none() {
            return;
        }
        for input in &signature.inputs {
            let mut named = Named::default();
            named.visit_fn_arg(input);
            for port in named.unguarded.iter().filter(|name| self.ports.contains(*name)) {
                self.report(input, &format!("{} is given {port}", signature.ident));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !item.attrs.iter().any(is_for_tests) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.fields(&item.ident, &item.fields);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        for variant in &item.variants {
            self.fields(&item.ident, &variant.fields);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.signature(signature);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let is_client = match call.receiver.as_ref() {
            syn::Expr::Path(path) => path.path.is_ident("client"),
            syn::Expr::Field(field) => {
                matches!(&field.member, syn::Member::Named(name) if name == "client")
            }
            _ => false,
        };
        // An adapter answers for its calls: the port it implements is behind the guards.
        if is_client && call.method == "send" && !self.source.path.starts_with(HTTP) {
            self.report(&call.method, "the client is called outside of an adapter");
        }
        visit::visit_expr_method_call(self, call);
    }
}

fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    attribute.path().is_ident("cfg") && list.tokens.to_string().contains("test")
}

/// The traits that a type names outside of a `Callee`, and whether it names the client.
#[derive(Default)]
struct Named {
    unguarded: BTreeSet<String>,
    client: bool,
}

impl<'ast> Visit<'ast> for Named {
    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        self.client |= segment.ident == CLIENT;
        if segment.ident != GUARDED {
            visit::visit_path_segment(self, segment);
        }
    }

    fn visit_trait_bound(&mut self, bound: &'ast syn::TraitBound) {
        self.unguarded.extend(last(&bound.path));
        visit::visit_trait_bound(self, bound);
    }
}

fn raw(source: &Source) -> Vec<String> {
    if RAW_FILES.iter().any(|file| source.path.ends_with(file)) {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    let bad = lines.filter(|(_, line)| RAW.iter().any(|raw| line.contains(raw)));
    bad.map(|(index, _)| format!("{}:{} opens a connection", source.path.display(), index + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: PathBuf::from(path), text: text.to_owned() }
    }

    /// Returns what is found in `text` at `path`, beside a service with one port.
    fn found(path: &str, text: &str) -> Vec<String> {
        let port = "#[async_trait] pub trait Door: Send { async fn knock(&self); }";
        let sources = [source("crates/amarra-shop/src/a/port.rs", port), source(path, text)];
        figures(&sources).unwrap().remove(0).found
    }

    #[test]
    fn a_port_without_its_guards_is_found() {
        let check = |path: &str, text: &str, what: &str| {
            let found = found(path, text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].ends_with(what), "{found:?}");
        };
        let shop = "crates/amarra-shop/src/a/service.rs";
        check(shop, "struct A { door: Arc<dyn Door> }", "A holds Door without a Callee");
        check(shop, "struct A<D: ?Sized> { door: Option<Box<dyn p::Door>> }", "without a Callee");
        check(shop, "enum A { B(Vec<Arc<dyn Door>>) }", "A holds Door without a Callee");
        check(shop, "async fn go(door: &dyn Door) { door.knock().await }", "go is given Door");
        check(shop, "impl A { async fn go(&self, door: &impl Door) {} }", "go is given Door");
        let app = "apps/amarra/src/compose/x.rs";
        check(app, "struct X { door: Arc<dyn Door> }", "X holds Door without a Callee");
        check(app, "struct X { c: Arc<HttpClient> }", "X holds an HttpClient and is no adapter");
        check(app, "async fn go(cx: &Cx) { cx.client.send(1).await; }", "outside of an adapter");
        check(app, "async fn go() { TcpStream::connect(1).await; }", "opens a connection");
        let http = "adapters/amarra-http/src/x.rs";
        check(http, "struct X { c: Arc<HttpClient> }", "X holds an HttpClient and is no adapter");
    }

    #[test]
    fn guarded_ports_adapters_and_customers_are_left_alone() {
        let clean = |path: &str, text: &str| assert_eq!(found(path, text), [""; 0], "{text}");
        let shop = "crates/amarra-shop/src/a/service.rs";
        clean(shop, "struct A { door: Callee<dyn Door>, doors: Vec<Callee<dyn Door>> }");
        clean(shop, "impl A { fn new(door: Arc<dyn Door>) -> Self { A(Callee::new(door, p)) } }");
        clean(shop, "#[cfg(test)] mod tests { struct Bench { door: Arc<dyn Door> } }");
        clean("apps/amarra/src/x.rs", "struct W { d: Arc<dyn Door> } impl Door for W {}");
        clean("adapters/amarra-http/src/x.rs", "struct H { c: HttpClient } impl Door for H {}");
        clean("apps/amarra/src/load/front.rs", "struct F { client: HttpClient }");
        clean("crates/amarra-shop/tests/it/x.rs", "struct F { door: Arc<dyn Door> }");
    }

    #[test]
    fn a_tree_without_ports_is_an_error() {
        let empty = [source("crates/amarra-shop/src/lib.rs", "")];
        assert!(figures(&empty).is_err());
    }
}
