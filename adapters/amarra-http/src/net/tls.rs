//! Mutual TLS 1.3 from PEM files, and the identity a certificate proves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::NetError;

/// The files one process proves itself with, and the authority it believes.
///
/// A process both serves and calls with one certificate: its DNS name is what callers know the
/// service by (`orders`), its URI name is the identity handed to handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain, PEM, own certificate first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority that every peer's certificate must come from, PEM.
    pub authority: PathBuf,
}

/// TLS of a server that asks every client for its certificate.
#[derive(Debug, Clone)]
pub struct ServerTls(pub(super) Arc<ServerConfig>);

/// TLS of a client that shows its certificate.
#[derive(Debug, Clone)]
pub struct ClientTls(pub(super) Arc<ClientConfig>);

impl TlsConfig {
    /// Reads the files for a server.
    ///
    /// # Errors
    /// [`NetError::File`] and [`NetError::Tls`].
    pub fn server(&self) -> Result<ServerTls, NetError> {
        let roots = Arc::new(self.roots()?);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|e| NetError::Tls(e.to_string()))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain()?, self.key()?)
            .map_err(tls)?;
        Ok(ServerTls(Arc::new(config)))
    }

    /// Reads the files for a client.
    ///
    /// # Errors
    /// [`NetError::File`] and [`NetError::Tls`].
    pub fn client(&self) -> Result<ClientTls, NetError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain()?, self.key()?)
            .map_err(tls)?;
        Ok(ClientTls(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore, NetError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority)? {
            roots.add(certificate).map_err(tls)?;
        }
        Ok(roots)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, NetError> {
        certificates(&self.certificate)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, NetError> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(|e| file(&self.key, &e))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|e| file(path, &e))?;
    if found.is_empty() {
        let why = "holds no PEM certificate".to_owned();
        return Err(NetError::File { path: path.to_owned(), why });
    }
    Ok(found)
}

fn file(path: &Path, error: &rustls_pki_types::pem::Error) -> NetError {
    NetError::File { path: path.to_owned(), why: error.to_string() }
}

fn tls(error: rustls::Error) -> NetError {
    NetError::Tls(error.to_string())
}

/// Returns the first URI name of a verified certificate.
pub(super) fn identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<Arc<str>> {
    let own = certificates?.first()?;
    let parsed = webpki::EndEntityCert::try_from(own).ok()?;
    parsed.valid_uri_names().next().map(Arc::from)
}
