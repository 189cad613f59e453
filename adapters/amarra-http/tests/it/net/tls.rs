//! Mutual TLS: who proves itself is served under its name, everybody else is not.

use std::path::{Path, PathBuf};

use amarra_http::Peer;
use amarra_http::net::{NetError, TlsConfig};
use axum::Router;
use axum::extract::Request;
use axum::routing::get as on_get;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};

use super::{block_on, client, get, loopback, start};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("amarra-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem: PathBuf,
}

fn authority(folder: &Folder, name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let pem = folder.write(&format!("{name}.pem"), &issuer.pem());
    Authority { issuer, pem }
}

/// Issues a certificate for the service `name`.
fn issue(folder: &Folder, by: &Authority, believes: &Path, name: &str) -> TlsConfig {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let uri = format!("spiffe://amarra/{name}");
    params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &by.issuer).unwrap();
    TlsConfig {
        certificate: folder.write(&format!("{name}-cert.pem"), &certificate.pem()),
        key: folder.write(&format!("{name}-key.pem"), &key.serialize_pem()),
        authority: believes.to_owned(),
    }
}

fn who() -> Router {
    let tell = |request: Request| async move {
        let peer = request.extensions().get::<Peer>().cloned();
        peer.and_then(|p| p.identity).map(|i| i.to_string()).unwrap_or_default()
    };
    Router::new().route("/", on_get(tell))
}

#[test]
fn a_proved_peer_is_known_by_its_uri_name() {
    let folder = Folder::new("proved");
    let ours = authority(&folder, "ca");
    let orders = issue(&folder, &ours, &ours.pem, "orders");
    let gateway = issue(&folder, &ours, &ours.pem, "gateway");
    block_on(async {
        let server = start(loopback(), Some(orders.server().unwrap()), who()).await;
        let client = client("orders", &server.address, Some(gateway.client().unwrap()));
        let answer = client.send("orders", get("/")).await.unwrap();
        assert_eq!(answer.body().as_ref(), b"spiffe://amarra/gateway");
    });
}

#[test]
fn strangers_and_impostors_are_not_served() {
    let folder = Folder::new("strangers");
    let (ours, theirs) = (authority(&folder, "ca"), authority(&folder, "other"));
    let orders = issue(&folder, &ours, &ours.pem, "orders");
    let gateway = issue(&folder, &ours, &ours.pem, "gateway");
    let stranger = issue(&folder, &theirs, &ours.pem, "stranger");
    block_on(async {
        let server = start(loopback(), Some(orders.server().unwrap()), who()).await;
        // A certificate of another authority.
        let bad = client("orders", &server.address, Some(stranger.client().unwrap()));
        bad.send("orders", get("/")).await.unwrap_err();
        // No certificate and no TLS at all.
        client("orders", &server.address, None).send("orders", get("/")).await.unwrap_err();
        // A server that is somebody else than the one asked for.
        let mixed = client("payments", &server.address, Some(gateway.client().unwrap()));
        mixed.send("payments", get("/")).await.unwrap_err();
    });
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = Folder::new("files");
    let ours = authority(&folder, "ca");
    let good = issue(&folder, &ours, &ours.pem, "orders");
    let check = |config: TlsConfig, path: &Path| {
        for error in [config.server().map(drop), config.client().map(drop)] {
            let error = error.unwrap_err();
            let named = matches!(&error, NetError::File { path: p, .. } if p == path);
            assert!(named, "{error}");
        }
    };
    let absent = folder.0.join("absent.pem");
    check(TlsConfig { key: absent.clone(), ..good.clone() }, &absent);
    let empty = folder.write("empty.pem", "nothing");
    check(TlsConfig { authority: empty.clone(), ..good.clone() }, &empty);
    check(TlsConfig { certificate: empty.clone(), ..good }, &empty);
}
