//! Every route from outside, as data: what is not here does not exist.

use std::time::Duration;

use amarra_resilience::shed::Priority;
use http::Method;

use crate::contract::{Principal, Role, Sku};

/// The methods that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads.
    Get,
    /// Commands.
    Post,
    /// Sets.
    Put,
    /// Ends.
    Delete,
}

impl Verb {
    /// Returns the verb of a method, none for one that no route has.
    #[must_use]
    pub fn of(method: &Method) -> Option<Self> {
        match method.as_str() {
            "GET" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }

    /// Returns the method's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may use a route. Whose data it gives is decided by the service that has the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Every authenticated user.
    User,
    /// Users with at least one of these roles, and administrators.
    AnyOf(&'static [Role]),
}

impl Access {
    /// Tells whether `principal` may use the route.
    #[must_use]
    pub fn admits(self, principal: &Principal) -> bool {
        match self {
            Self::Public | Self::User => true,
            // An empty list admits administrators and nobody else.
            Self::AnyOf(roles) => {
                principal.has(Role::Admin) || roles.iter().any(|role| principal.has(*role))
            }
        }
    }
}

/// What the `Idempotency-Key` header means to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// Without one the request is refused: a repeated one would do it twice.
    Required,
    /// With one the service does it once, however often the request comes.
    Honoured,
    /// The service pays no attention to it, so it makes no retry safe.
    Ignored,
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The path; `{id}` and `{order}` are UUIDs and `{sku}` is a SKU.
    pub pattern: &'static str,
    /// The service behind it.
    pub service: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What an idempotency key means to it.
    pub key: KeyRule,
    /// Whether a repeated request has the effect of one even without a key.
    pub idempotent: bool,
    /// How much it matters under load.
    pub priority: Priority,
    /// Whether it guesses at passwords or tokens: the stricter rate limit is for it.
    pub credentials: bool,
    /// The largest body, in bytes; zero where none is taken.
    pub body_bytes_max: usize,
    /// How long its caller waits, retries included.
    pub timeout: Duration,
    /// A request header of its own that is passed on, besides those every route passes on.
    pub header: Option<&'static str>,
}

const fn route(verb: Verb, pattern: &'static str, service: &'static str) -> Route {
    Route {
        verb,
        pattern,
        service,
        // Deny by default: a route that names nobody is for administrators.
        access: Access::AnyOf(&[]),
        key: KeyRule::Ignored,
        idempotent: matches!(verb, Verb::Get | Verb::Put | Verb::Delete),
        priority: Priority::Normal,
        credentials: false,
        body_bytes_max: match verb {
            Verb::Get | Verb::Delete => 0,
            Verb::Post | Verb::Put => 16_384,
        },
        timeout: Duration::from_secs(10),
        header: None,
    }
}

const fn get(pattern: &'static str, service: &'static str) -> Route {
    route(Verb::Get, pattern, service)
}

const fn post(pattern: &'static str, service: &'static str) -> Route {
    route(Verb::Post, pattern, service)
}

const fn put(pattern: &'static str, service: &'static str) -> Route {
    route(Verb::Put, pattern, service)
}

impl Route {
    const fn public(self) -> Self {
        Self { access: Access::Public, ..self }
    }

    const fn user(self) -> Self {
        Self { access: Access::User, ..self }
    }

    const fn any_of(self, roles: &'static [Role]) -> Self {
        Self { access: Access::AnyOf(roles), ..self }
    }

    const fn keyed(self, key: KeyRule) -> Self {
        Self { key, ..self }
    }

    const fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    const fn matters(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    const fn credentials(self) -> Self {
        Self { credentials: true, ..self }
    }

    const fn passing(self, header: &'static str, body_bytes_max: usize) -> Self {
        Self { header: Some(header), body_bytes_max, ..self }
    }

    /// Tells whether the path is one of this route.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut given = path.split('/');
        let mut asked = self.pattern.split('/');
        loop {
            match (asked.next(), given.next()) {
                (None, None) => return true,
                (Some(asked), Some(given)) if fits(asked, given) => {}
                _ => return false,
            }
        }
    }
}

fn fits(asked: &str, given: &str) -> bool {
    match asked {
        "{id}" | "{order}" => uuid(given),
        "{sku}" => given.parse::<Sku>().is_ok(),
        literal => literal == given,
    }
}

/// The hyphenated form only: the other forms of UUIDs would be second names of one thing.
fn uuid(text: &str) -> bool {
    text.len() == 36
        && text.parse::<uuid::Uuid>().is_ok()
        && !text.bytes().any(|b| b.is_ascii_uppercase())
}

const CATALOG: &[Role] = &[Role::CatalogAdmin];
const STOCK: &[Role] = &[Role::InventoryAdmin];
const STOCK_READ: &[Role] = &[Role::InventoryAdmin, Role::Support];
const FULFILMENT: &[Role] = &[Role::InventoryAdmin, Role::Support];
const PAYMENT_READ: &[Role] = &[Role::PaymentsAdmin, Role::Support];
const JOURNAL: &[Role] = &[Role::PaymentsAdmin, Role::Auditor];
const NOBODY_ELSE: &[Role] = &[];

/// Every route.
pub static ROUTES: &[Route] = &[
    post("/v1/users", "users").public().credentials().keyed(KeyRule::Honoured),
    post("/v1/users/{id}/verify", "users").public().credentials().idempotent(),
    get("/v1/users/{id}", "users").user(),
    put("/v1/users/{id}/roles", "users").any_of(NOBODY_ELSE),
    post("/v1/sessions", "users").public().credentials(),
    post("/v1/sessions/refresh", "users").public().credentials().idempotent(),
    route(Verb::Delete, "/v1/sessions", "users").user(),
    get("/v1/me", "users").user(),
    get("/v1/jwks", "users").public(),
    get("/v1/products", "catalog").public().matters(Priority::Sheddable),
    get("/v1/products/{sku}", "catalog").public().matters(Priority::Sheddable),
    post("/v1/products", "catalog").any_of(CATALOG).keyed(KeyRule::Honoured),
    post("/v1/products/{sku}/publish", "catalog").any_of(CATALOG).keyed(KeyRule::Honoured),
    post("/v1/products/{sku}/discontinue", "catalog").any_of(CATALOG).keyed(KeyRule::Honoured),
    put("/v1/products/{sku}/price", "catalog").any_of(CATALOG).keyed(KeyRule::Honoured),
    post("/v1/quotes", "catalog").user().idempotent().matters(Priority::Critical),
    post("/v1/orders", "orders").user().keyed(KeyRule::Required).matters(Priority::Critical),
    get("/v1/orders", "orders").user(),
    get("/v1/orders/{id}", "orders").user(),
    get("/v1/orders/{id}/timeline", "orders").user(),
    post("/v1/orders/{id}/cancel", "orders").user().matters(Priority::Critical),
    post("/v1/orders/{id}/ship", "orders").any_of(FULFILMENT),
    post("/v1/orders/{id}/deliver", "orders").any_of(FULFILMENT),
    get("/v1/stock/{sku}", "inventory").any_of(STOCK_READ),
    post("/v1/stock/{sku}/adjust", "inventory").any_of(STOCK).keyed(KeyRule::Required),
    post("/v1/stock/{sku}/receive", "inventory").any_of(STOCK).keyed(KeyRule::Required),
    get("/v1/payments/{order}", "payments").any_of(PAYMENT_READ),
    get("/v1/journal", "payments").any_of(JOURNAL),
    post("/v1/webhooks/provider", "payments")
        .public()
        .idempotent()
        .matters(Priority::Critical)
        .passing("provider-signature", 65_536),
    get("/v1/notifications/{order}", "notifications").user(),
    get("/v1/preferences", "notifications").user(),
    put("/v1/preferences", "notifications").user(),
];

/// What a method and path come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// This route.
    Found(&'static Route),
    /// The path has other methods: answer 405 and name them.
    OtherVerbs(Vec<Verb>),
    /// Nothing: answer 404.
    Nothing,
}

/// Finds the route of a request.
#[must_use]
pub fn find(method: &Method, path: &str) -> Match {
    let asked = Verb::of(method);
    let mut verbs = Vec::new();
    for route in ROUTES.iter().filter(|route| route.matches(path)) {
        if Some(route.verb) == asked {
            return Match::Found(route);
        }
        verbs.push(route.verb);
    }
    if verbs.is_empty() { Match::Nothing } else { Match::OtherVerbs(verbs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn every_route_is_found_by_its_own_pattern_and_by_no_other() {
        for route in ROUTES {
            let path = route.pattern.replace("{id}", ID).replace("{order}", ID);
            let path = path.replace("{sku}", "A-1");
            let method: Method = route.verb.as_str().parse().unwrap();
            assert_eq!(find(&method, &path), Match::Found(route));
            let twins = ROUTES.iter().filter(|r| r.verb == route.verb && r.matches(&path));
            assert_eq!(twins.count(), 1, "{path} has two routes");
        }
    }

    #[test]
    fn paths_that_are_almost_routes_are_not() {
        let wrong = [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v2/orders",
            "/v1/orders/",
            "//v1/orders",
            "/v1//orders",
            "/V1/orders",
            "/v1/orders/7",
            "/v1/products/a-1",
            "/v1/products/",
            "/v1/orders/../me",
            "/v1/orders/01890A5D-AC96-774B-BCCE-B302099A8057",
            "/v1/orders/01890a5dac96774bbcceb302099a8057",
            "/v1/orders/{01890a5d-ac96-774b-bcce-b302099a805}",
            "/v1/products/A%2D1",
            "/metrics",
            "/v1/users/{id}",
        ];
        for path in wrong {
            assert_eq!(find(&Method::GET, path), Match::Nothing, "{path:?}");
        }
    }

    #[test]
    fn a_wrong_verb_names_the_right_ones() {
        let check = |method: &str, path: &str, expect: &[Verb]| {
            let got = find(&method.parse().unwrap(), path);
            assert_eq!(got, Match::OtherVerbs(expect.to_vec()), "{method} {path}");
        };
        check("DELETE", "/v1/orders", &[Verb::Post, Verb::Get]);
        check("GET", "/v1/sessions", &[Verb::Post, Verb::Delete]);
        check("OPTIONS", "/v1/me", &[Verb::Get]);
        check("HEAD", "/v1/products", &[Verb::Get, Verb::Post]);
        check("BREW", "/v1/quotes", &[Verb::Post]);
    }

    #[test]
    fn what_can_be_doubled_asks_for_a_key_or_says_why_not() {
        let unprotected: Vec<_> = ROUTES
            .iter()
            .filter(|r| r.verb == Verb::Post && !r.idempotent && r.key == KeyRule::Ignored)
            .map(|r| r.pattern)
            .collect();
        // A second login is a second session, and the state machine of orders takes a change once.
        let expect = [
            "/v1/sessions",
            "/v1/orders/{id}/cancel",
            "/v1/orders/{id}/ship",
            "/v1/orders/{id}/deliver",
        ];
        assert_eq!(unprotected, expect);
    }
}
