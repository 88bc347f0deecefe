//! Encryption: what is checked of a server's certificate, by mode.
//!
//! - `require` and `prefer` check nothing: the connection is encrypted, to whoever it leads.
//! - A file of trusted certificates is checked by [`Trusted`], with the name for `verify-full` and without for `verify-ca`.
//! - Without a file the system decides, name included.
//!
//! That the server holds the key of the certificate that it shows is checked always.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::source::libpq::{Tls, TlsMode};

/// Makes what encrypts connections.
///
/// # Errors
/// In words, where a file cannot be read or used.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier: Arc<dyn ServerCertVerifier> = match (tls.mode, &tls.root_certificate) {
        (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require, _) => Arc::new(Unchecked { algorithms }),
        (TlsMode::VerifyCa | TlsMode::VerifyFull, Some(file)) => {
            Arc::new(Trusted::read(file, tls.mode == TlsMode::VerifyFull, algorithms)?)
        }
        (TlsMode::VerifyCa | TlsMode::VerifyFull, None) => {
            let system = Verifier::new(Arc::clone(&provider));
            Arc::new(system.map_err(|error| format!("the system's trusted certificates cannot be used: {error}"))?)
        }
    };
    build(provider, verifier, tls.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path())))
}

/// Makes what encrypts connections without any check, where nothing is to be encrypted.
///
/// # Errors
/// As [`connector`].
pub(super) fn unchecked() -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    build(provider, Arc::new(Unchecked { algorithms }), None)
}

fn build(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    client: Option<(&Path, &Path)>,
) -> Result<MakeRustlsConnect, String> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|_| format!("`{}` holds no private key in PEM form without a passphrase", key.display()))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|error| format!("the certificate `{}` cannot be used with its key: {error}", certificate.display()))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: rustls::pki_types::pem::Error| format!("`{}` cannot be read as certificates: {error}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(format!("`{}` holds no certificate in PEM form", file.display())) } else { Ok(found) }
}

/// Accepts every certificate.
#[derive(Debug)]
struct Unchecked {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts what the certificates of a file have signed, and themselves.
#[derive(Debug)]
struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trusted {
    fn read(file: &Path, checks_name: bool, algorithms: WebPkiSupportedAlgorithms) -> Result<Self, String> {
        let certificates = certificates(file)?;
        let mut roots = RootCertStore::empty();
        let (used, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if used == 0 {
            return Err(format!("`{}` holds no certificate that can be used", file.display()));
        }
        Ok(Self { certificates, roots, checks_name, algorithms })
    }

    /// Tells whether the server shows a certificate of the file itself, which signed itself. It is refused for that alone: the dates are
    /// checked before.
    fn is_itself(&self, error: &Error, shown: &CertificateDer<'_>) -> bool {
        matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.0.to_string() == "CaUsedAsEndEntity")
            && self.certificates.iter().any(|certificate| certificate.as_ref() == shown.as_ref())
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(shown)?;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all) {
            Err(error) if !self.is_itself(&error, shown) => return Err(error),
            _ => {}
        }
        if self.checks_name {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
