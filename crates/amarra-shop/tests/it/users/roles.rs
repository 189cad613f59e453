//! Roles: who may change them, and what that does to tokens.

use std::sync::Arc;

use amarra_shop::auth::{Revocations, TokenError};
use amarra_shop::contract::users::{ChangeRole, UserView};
use amarra_shop::contract::{ApiError, Caller, Role, UserId};
use amarra_shop::users::Config;

use super::bench::{Bench, PASSWORD, caller, config};

fn change(
    bench: &Bench,
    by: &Caller,
    target: UserId,
    (role, grant): (Role, bool),
) -> Result<UserView, ApiError> {
    bench.run(bench.users.change_role(by, target, ChangeRole { role, grant }))
}

const GIVE: bool = true;
const TAKE: bool = false;

#[test]
fn an_administrator_gives_and_takes_roles() {
    let bench = Bench::new(config());
    let root = bench.root();
    let ann = bench.register("ann@shop.example");
    let view = change(&bench, &root, ann, (Role::Support, GIVE)).unwrap();
    assert_eq!(view.roles, [Role::Customer, Role::Support]);
    let before = bench.events().len();
    let again = change(&bench, &root, ann, (Role::Support, GIVE)).unwrap();
    assert_eq!((again, bench.events().len()), (view, before), "a repetition says nothing");
    let view = change(&bench, &root, ann, (Role::Support, TAKE)).unwrap();
    assert_eq!(view.roles, [Role::Customer]);
    assert_eq!(bench.kinds().iter().filter(|kind| *kind == "RolesChanged").count(), 2);
    bench.check();
}

#[test]
fn nobody_else_does_whatever_their_token_says() {
    let bench = Bench::new(config());
    let root = bench.root();
    let ann = bench.register("ann@shop.example");
    let others = [
        Role::Customer,
        Role::Support,
        Role::CatalogAdmin,
        Role::InventoryAdmin,
        Role::PaymentsAdmin,
        Role::Auditor,
    ];
    let refused = |by: &Caller, what| {
        assert_eq!(change(&bench, by, ann, what), Err(ApiError::Forbidden), "{by:?}");
    };
    for role in others {
        refused(&caller(root.principal.user_id, &[role]), (Role::Support, GIVE));
    }
    // The token says so, the database does not: it was taken since, or forged past the gateway.
    refused(&caller(ann, &[Role::Admin]), (Role::Support, TAKE));
    refused(&caller(uuid::Uuid::nil().into(), &[Role::Admin]), (Role::Admin, GIVE));
    let nobody = change(&bench, &root, uuid::Uuid::nil().into(), (Role::Support, GIVE));
    assert_eq!(nobody, Err(ApiError::NotFound));
    assert_eq!(bench.kinds().iter().filter(|kind| *kind == "RolesChanged").count(), 0);
}

#[test]
fn nobody_raises_themselves_and_the_last_administrator_stays() {
    let bench = Bench::new(config());
    let root = bench.root();
    let own = root.principal.user_id;
    assert_eq!(change(&bench, &root, own, (Role::Auditor, GIVE)), Err(ApiError::Forbidden));
    let last = change(&bench, &root, own, (Role::Admin, TAKE)).unwrap_err();
    assert_eq!(last.status(), 409);
    let ann = bench.register("ann@shop.example");
    change(&bench, &root, ann, (Role::Admin, GIVE)).unwrap();
    change(&bench, &root, own, (Role::Admin, TAKE)).unwrap();
    assert_eq!(change(&bench, &root, ann, (Role::Admin, TAKE)), Err(ApiError::Forbidden));
    let tokens = bench.login("ann@shop.example", PASSWORD).unwrap();
    assert!(bench.principal(&tokens).has(Role::Admin));
    bench.check();
}

#[test]
fn of_two_administrators_who_remove_each_other_at_once_one_stays() {
    let bench = Bench::new(config());
    let root = bench.root();
    let ann = bench.register("ann@shop.example");
    change(&bench, &root, ann, (Role::Admin, GIVE)).unwrap();
    let by_ann = caller(ann, &[Role::Admin]);
    let take = || ChangeRole { role: Role::Admin, grant: false };
    bench.run(async {
        let (a, b) = futures_util::future::join(
            bench.users.change_role(&root, ann, take()),
            bench.users.change_role(&by_ann, root.principal.user_id, take()),
        )
        .await;
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    });
    bench.check();
}

#[test]
fn an_unverified_user_gets_no_role() {
    let bench = Bench::new(Config { auto_verify: false, ..config() });
    let root = bench.root();
    let ann = bench.register("ann@shop.example");
    assert_eq!(change(&bench, &root, ann, (Role::Admin, GIVE)).unwrap_err().status(), 409);
}

#[test]
fn a_changed_role_revokes_the_tokens_from_before() {
    let bench = Bench::new(config());
    let root = bench.root();
    let ann = bench.register("ann@shop.example");
    change(&bench, &root, ann, (Role::Support, GIVE)).unwrap();
    let before = bench.login("ann@shop.example", PASSWORD).unwrap();
    let revocations = Arc::new(Revocations::default());
    let verifier = bench.verifier(Arc::clone(&revocations));
    assert!(verifier.verify(before.access_token.expose()).is_ok());
    change(&bench, &root, ann, (Role::Support, TAKE)).unwrap();
    bench.events().iter().for_each(|event| revocations.observe(event).unwrap());
    assert_eq!(verifier.verify(before.access_token.expose()), Err(TokenError::Revoked));
    let after = bench.refresh(&before.refresh_token).unwrap();
    assert!(verifier.verify(after.access_token.expose()).is_ok());
    assert!(!bench.principal(&after).has(Role::Support), "a refresh brings the roles of today");
}

#[test]
fn a_user_is_shown_to_herself_and_to_support() {
    let bench = Bench::new(config());
    let ann = bench.register("ann@shop.example");
    let bob = bench.register("bob@shop.example");
    let see = |by: &Caller| bench.run(bench.users.get(by, ann)).map(|view| view.user_id);
    assert_eq!(see(&caller(ann, &[])), Ok(ann));
    assert_eq!(see(&caller(bob, &[Role::Support])), Ok(ann));
    assert_eq!(see(&caller(bob, &[Role::Admin])), Ok(ann));
    for role in [Role::Customer, Role::CatalogAdmin, Role::PaymentsAdmin, Role::Auditor] {
        assert_eq!(see(&caller(bob, &[role])), Err(ApiError::NotFound), "{role:?}");
    }
    let nobody = bench.run(bench.users.me(&caller(uuid::Uuid::nil().into(), &[])));
    assert_eq!(nobody, Err(ApiError::NotFound));
}
