//! Passwords: what verifies, what it costs, what is out of date.

use amarra_core::SeededEntropy;

use super::*;

fn passwords(passes: u32) -> Passwords {
    Passwords::new(PasswordConfig { passes, ..PasswordConfig::cheapest() }).unwrap()
}

#[test]
fn only_the_password_verifies_and_salts_differ() {
    let (passwords, entropy) = (passwords(1), SeededEntropy::new(1, "salts"));
    let secret = Secret::new("correct horse");
    let (a, b) = (passwords.hash(&secret, &entropy), passwords.hash(&secret, &entropy));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a, b);
    assert!(a.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{a}");
    for stored in [&a, &b] {
        assert!(passwords.verify(&secret, Some(stored)).unwrap().right);
        assert!(!passwords.verify(&Secret::new("wrong"), Some(stored)).unwrap().right);
    }
}

#[test]
fn pwd_1_an_unknown_user_costs_a_whole_verification() {
    let passwords = passwords(1);
    for text in ["", "anything", &passwords.dummy] {
        assert!(!passwords.verify(&Secret::new(text), None).unwrap().right);
    }
    let cost = |c: PasswordConfig| (c.memory_kib, c.passes, c.lanes);
    let dummy = Parts::parse(&passwords.dummy).unwrap();
    assert_eq!(cost(dummy.config), cost(passwords.config));
}

#[test]
fn pwd_2_other_parameters_verify_and_are_out_of_date() {
    let entropy = SeededEntropy::new(1, "salts");
    let secret = Secret::new("correct horse");
    let old = passwords(2).hash(&secret, &entropy).unwrap();
    let verdict = passwords(1).verify(&secret, Some(&old)).unwrap();
    assert_eq!(verdict, Verdict { right: true, outdated: true });
    let verdict = passwords(2).verify(&secret, Some(&old)).unwrap();
    assert_eq!(verdict, Verdict { right: true, outdated: false });
}

/// The reference implementation's own test vector, in the form it is printed there.
#[test]
fn a_hash_of_the_reference_implementation_verifies() {
    let config = PasswordConfig { memory_kib: 256, passes: 2, ..PasswordConfig::cheapest() };
    let params = Params::new(config.memory_kib, config.passes, config.lanes, Some(32)).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; 32];
    argon2.hash_password_into(b"password", b"somesalt", &mut hash).unwrap();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe");
}

#[test]
fn corrupt_hashes_are_errors() {
    let good = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert!(Parts::parse(good).is_some());
    for bad in [
        "".to_owned(),
        good.replace("argon2id", "argon2i"),
        good.replace("v=19", "v=16"),
        good.replace("m=8", "m=99999999"),
        good.replace("p=1", "p=2"),
        format!("{good}$x"),
        format!("{good}="),
    ] {
        assert!(Parts::parse(&bad).is_none(), "{bad}");
    }
}

#[test]
fn hashes_beyond_the_bound_are_refused() {
    let config = PasswordConfig { hashes_in_flight_max: 1, ..PasswordConfig::cheapest() };
    let passwords = Passwords::new(config).unwrap();
    let permit = passwords.permit().unwrap();
    let refused = passwords.verify(&Secret::new("x"), None).unwrap_err();
    assert_eq!(refused.status(), 503);
    drop(permit);
    assert!(passwords.verify(&Secret::new("x"), None).is_ok());
}
