//! Encryption: what is checked of a server's certificate, by mode.
//!
//! - `require` and `prefer` check nothing: the connection is encrypted, to whoever it leads.
//! - A file of trusted certificates is checked by [`Trusted`], with the name for `verify-full` and without for `verify-ca`.
//! - Without a file the system decides, name included.
//!
//! That the server holds the key of the certificate that it shows is checked always; else channel binding would prove nothing.
//!
//! Certificates of X.509 version 1, which `openssl x509` makes where nothing else is said, are not read by rustls. As a client's they are sent
//! unread; as a server's, [`Unchecked`] reads the key out of them itself, and [`Trusted`] refuses them.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore, SignatureScheme};
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
    let keys = provider.key_provider;
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
            let signer = keys.load_private_key(secret).map_err(|error| format!("`{}` cannot be used as a key: {error}", key.display()))?;
            let own = CertifiedKey::new(chain, signer);
            if own.keys_match() == Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) {
                return Err(format!("`{}` is not the key of the certificate `{}`", key.display(), certificate.display()));
            }
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: rustls::pki_types::pem::Error| format!("`{}` cannot be read as certificates: {error}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(format!("`{}` holds no certificate in PEM form", file.display())) } else { Ok(found) }
}

/// Says in words why encryption failed.
pub(super) fn words(error: &Error) -> String {
    let named = "name the file of its issuer with `sslrootcert`";
    let Error::InvalidCertificate(why) = error else { return error.to_string() };
    match why {
        CertificateError::UnknownIssuer => format!("none that is trusted has signed the server's certificate; {named}"),
        CertificateError::Other(other) if other.0.to_string() == SELF_SIGNED => {
            format!("the server's certificate is signed by itself, and not one that is trusted; {named}")
        }
        CertificateError::Other(other) if other.0.to_string() == VERSION_1 => {
            "the server's certificate is of X.509 version 1, which cannot be checked; make one of version 3, with a `subjectAltName`"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            // `DnsName("localhost")`
            let names: Vec<_> = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect();
            let names = if names.is_empty() { "no name (it has no `subjectAltName`)".to_owned() } else { names.join(", ") };
            format!("the server's certificate is for {names}, and not for {}", expected.to_str())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the server's certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".to_owned()
        }
        _ => error.to_string(),
    }
}

/// What webpki says, where rustls has no variant of its own for it.
const SELF_SIGNED: &str = "CaUsedAsEndEntity";
const VERSION_1: &str = "UnsupportedCertVersion";

fn is_version_1(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.0.to_string() == VERSION_1)
}

/// Finds the public key in a certificate: the seventh part of its first part, or the sixth where it says no version.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let (_, outer, _) = der_part(certificate)?;
    let (_, mut rest, _) = der_part(outer)?;
    if rest.first() == Some(&0xA0) {
        rest = der_part(rest)?.2;
    }
    // Its number, the algorithm, the issuer, the dates and the subject.
    for _ in 0..5 {
        rest = der_part(rest)?.2;
    }
    der_part(rest).map(|(whole, ..)| whole)
}

/// Splits off one part of DER: it whole, what is in it, and what follows.
fn der_part(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let first = usize::from(*bytes.get(1)?);
    let (header, length) = match first {
        0..=0x7F => (2, first),
        0x81..=0x84 => {
            let digits = bytes.get(2..2 + (first & 0x7F))?;
            (2 + digits.len(), digits.iter().try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?)
        }
        _ => return None,
    };
    let end = header.checked_add(length)?;
    Some((bytes.get(..end)?, bytes.get(header..end)?, bytes.get(end..)?))
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
        match verify_tls13_signature(message, certificate, signature, &self.algorithms) {
            Err(error) if is_version_1(&error) => {
                let key = public_key(certificate.as_ref()).ok_or(error)?;
                verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key), signature, &self.algorithms)
            }
            verified => verified,
        }
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
        matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.0.to_string() == SELF_SIGNED)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of nothing but its parts' outlines, with or without its version.
    fn outline(with_version: bool) -> Vec<u8> {
        let mut inner = if with_version { vec![0xA0, 3, 2, 1, 2] } else { Vec::new() };
        inner.extend([2, 1, 7, 0x30, 0, 0x30, 2, 5, 0, 0x30, 0, 0x30, 0x81, 1, 5]);
        inner.extend([0x30, 3, 3, 1, 9]);
        inner.extend([0xA3, 0]);
        let length = u8::try_from(inner.len()).expect("short");
        let mut whole = vec![0x30, length + 2, 0x30, length];
        whole.extend(inner);
        whole
    }

    #[test]
    fn the_key_is_found_in_a_certificate_of_any_version() {
        for with_version in [false, true] {
            assert_eq!(public_key(&outline(with_version)), Some(&[0x30, 3, 3, 1, 9][..]));
        }
    }

    #[test]
    fn a_certificate_that_is_cut_or_lies_about_its_lengths_has_no_key() {
        let whole = outline(true);
        for length in 0..whole.len() {
            assert_eq!(public_key(&whole[..length]), None, "{length}");
        }
        for length in [&[0x80][..], &[0x84, 0xFF, 0xFF, 0xFF, 0xFF], &[0x88, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], &[0xFF]] {
            let mut lying = vec![0x30];
            lying.extend(length);
            lying.extend(&whole);
            assert_eq!(public_key(&lying), None, "{length:?}");
        }
    }

    #[test]
    fn files_that_hold_no_certificate_or_key_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().join("empty.crt");
        fs_err::write(&empty, "no PEM").expect("written");
        let tls = |mode, root: &Path| Tls {
            mode,
            root_certificate: Some(root.to_owned()),
            client: None,
            channel_binding: crate::source::libpq::ChannelBinding::Prefer,
        };
        for (file, expected) in [(empty.as_path(), "holds no certificate"), (&folder.path().join("none.crt"), "cannot be read")] {
            let error = connector(&tls(TlsMode::VerifyFull, file)).map(drop).expect_err("no certificate");
            assert!(error.contains(expected) && error.contains(&file.display().to_string()), "{error}");
        }
        assert!(connector(&tls(TlsMode::Require, &empty)).is_ok());
    }
}
