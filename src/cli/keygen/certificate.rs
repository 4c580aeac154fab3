//! `ixgate keygen ca` and `ixgate keygen certificate`: enough of an authority to try IPsec with certificates, or to run a
//! small centre by. Whoever has an authority needs neither: any certificate that holds the identity will do.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, RsaKeySize, SanType,
};
use serde_json::json;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::{Answer, KeygenError, PUBLIC_FILE, SECRET, Text, write_file};
use crate::ike::auth::{Date, Identity};

const CA_HELP: &str = "\
Example:
  ixgate keygen ca --name \"dn:C=CH, O=Clinic, CN=Clinic CA\" --out secrets/ca.key
  ixgate keygen certificate --ca secrets/ca.pem --ca-key secrets/ca.key \\
      --id fqdn:gw.example --out secrets/gw.key

The certificate (secrets/ca.pem) goes to everybody who shall trust it. The key stays with you, best
on another machine than the appliance: whoever has it can be anybody.";

const CERTIFICATE_HELP: &str = "\
Examples:
  ixgate keygen certificate --ca ca.pem --ca-key ca.key --id fqdn:ix-east.example --out ix.key
  ixgate keygen certificate --ca ca.pem --ca-key ca.key \\
      --id \"dn:C=CH, O=Clinic, CN=gw\" --id ip:192.0.2.1 --out gw.key

The identity is the name by which the gateway calls itself in IKE (local_id on its own side,
remote_id on the other): the two must be equal. In strongSwan: id = gw.example, certs = gw.pem,
and on the other side cacerts = ca.pem.";

/// A certificate authority: private key and self-signed certificate.
#[derive(Args, Debug)]
#[command(after_help = CA_HELP)]
pub(super) struct CaArgs {
    /// Its name: a common name, or "dn:" and a whole distinguished name.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// For how many days the certificate is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    #[command(flatten)]
    target: Target,
}

/// A gateway's private key and certificate, issued by an authority.
#[derive(Args, Debug)]
#[command(after_help = CERTIFICATE_HELP)]
pub(super) struct CertificateArgs {
    /// The identity that the certificate holds: fqdn:, email:, ip: or dn:, as in the configuration. May be repeated.
    #[arg(long = "id", value_name = "IDENTITY", required = true)]
    ids: Vec<Identity>,
    /// The authority's certificate.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The authority's private key.
    #[arg(long, value_name = "FILE")]
    ca_key: PathBuf,
    /// For how many days it is valid, though no longer than the authority's.
    #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct Target {
    /// Write the private key to this new file, mode 0600. Its folder is made if need be.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write the certificate to this new file [default: the key's name, ending in .pem]
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Kind of key.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Algorithm::P256)]
    algorithm: Algorithm,
    /// Replace the files if they exist. The key in them is lost.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    /// ECDSA on P-256: short, fast, and known to every peer.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Shorter and faster still; the peer must know RFC 8420.
    Ed25519,
    /// For old peers.
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

#[derive(Debug, Error)]
pub enum Error {
    #[error("the authority's certificate in {} is malformed: expected one certificate in PEM.", .0.display())]
    MalformedCa(PathBuf),
    #[error("the certificate in {} is no authority's (no CA:TRUE): nobody would believe what it issues.", .0.display())]
    NoCa(PathBuf),
    #[error("the authority's certificate in {} is valid from {from} until {until}, not now.", .path.display())]
    CaNotValid { path: PathBuf, from: Date, until: Date },
    #[error("{} holds no unencrypted private key in PEM.", .0.display())]
    MalformedKey(PathBuf),
    #[error("the private key in {} does not belong to the certificate in {}.", .key.display(), .ca.display())]
    Mismatch { key: PathBuf, ca: PathBuf },
    #[error("the name \"{0}\" is not usable: {1}")]
    Name(String, String),
    #[error("only one --id may be a distinguished name (dn:): it becomes the subject of the certificate.")]
    TwoSubjects,
    #[error("{} is both key and certificate file: choose two names.", .0.display())]
    SameFile(PathBuf),
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

pub(super) fn make_ca(args: &CaArgs, now: SystemTime) -> Result<Answer, KeygenError> {
    let subject = match args.name.starts_with("dn:") {
        true => args.name.parse::<Identity>().map_err(|error| Error::Name(args.name.clone(), error.to_string()))?,
        false => common_name(&args.name)?,
    };
    let now = unix(now);
    let mut params = params(&subject, now, in_days(now, args.days))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate_file = args.target.certificate_file()?;
    let key = args.target.algorithm.generate()?;
    let certificate = params.self_signed(&key).map_err(Error::Make)?;
    args.target.write(&certificate_file, &key, &certificate, json!({}))
}

pub(super) fn make_certificate(args: &CertificateArgs, now: SystemTime) -> Result<Answer, KeygenError> {
    let now = unix(now);
    let (issuer, ca_until) = read_ca(&args.ca, &args.ca_key, now)?;
    let mut subjects = args.ids.iter().filter(|id| matches!(id, Identity::Dn(_)));
    let subject = match (subjects.next(), subjects.next()) {
        (Some(subject), None) => subject.clone(),
        (Some(_), Some(_)) => return Err(Error::TwoSubjects.into()),
        (None, _) => common_name(&args.ids.first().map(bare).unwrap_or_default())?,
    };
    let mut params = params(&subject, now, in_days(now, args.days).min(ca_until))?;
    params.subject_alt_names = args.ids.iter().filter_map(alternative).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let certificate_file = args.target.certificate_file()?;
    let key = args.target.algorithm.generate()?;
    let certificate = params.signed_by(&key, &issuer).map_err(Error::Make)?;
    let ids: Vec<String> = args.ids.iter().map(Identity::to_string).collect();
    args.target.write(&certificate_file, &key, &certificate, json!({ "identities": ids }))
}

impl Algorithm {
    fn generate(self) -> Result<KeyPair, Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        Ok(match self {
            Algorithm::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Algorithm::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Algorithm::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            Algorithm::Rsa2048 => rsa(RsaKeySize::_2048),
            Algorithm::Rsa3072 => rsa(RsaKeySize::_3072),
            Algorithm::Rsa4096 => rsa(RsaKeySize::_4096),
        }?)
    }
}

impl Target {
    /// Asked before anything is made, so that no key stays behind without its certificate.
    fn certificate_file(&self) -> Result<PathBuf, KeygenError> {
        let certificate = self.certificate.clone().unwrap_or_else(|| self.out.with_extension("pem"));
        if certificate == self.out {
            return Err(Error::SameFile(certificate).into());
        }
        for file in [&self.out, &certificate] {
            if file.exists() && !self.force {
                return Err(KeygenError::Exists(file.clone()));
            }
        }
        Ok(certificate)
    }

    fn write(
        &self,
        certificate_file: &Path,
        key: &KeyPair,
        certificate: &rcgen::Certificate,
        mut json: serde_json::Value,
    ) -> Result<Answer, KeygenError> {
        let private = Text::new(key.serialize_pem());
        write_file(&self.out, private.trim_end(), SECRET, self.force)?;
        write_file(certificate_file, certificate.pem().trim_end(), PUBLIC_FILE, self.force)?;
        let until = validity(certificate.der()).map_or(Date(0), |(_, until)| until).to_string();
        let (key_shown, shown) = (self.out.display().to_string(), certificate_file.display().to_string());
        if !self.json {
            let remark = format!("private key in {key_shown}\ncertificate in {shown}, valid until {until}\n");
            return Ok(Answer { output: Text::default(), remark });
        }
        json["private_key_file"] = key_shown.into();
        json["certificate_file"] = shown.into();
        json["valid_until"] = until.into();
        Ok(Answer { output: Text::new(format!("{json}\n")), remark: String::new() })
    }
}

/// Valid from an hour ago, for clocks that are late.
fn params(subject: &Identity, now: Date, until: Date) -> Result<CertificateParams, Error> {
    let moment = |date: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(date);
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(subject)?;
    params.not_before = moment(now.0.saturating_sub(3600));
    params.not_after = moment(until.0);
    Ok(params)
}

fn unix(now: SystemTime) -> Date {
    Date(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

fn in_days(now: Date, days: u32) -> Date {
    Date(now.0 + u64::from(days) * 86_400)
}

fn common_name(name: &str) -> Result<Identity, Error> {
    let quoted = format!("dn:CN=\"{}\"", name.replace(['\\', '"'], ""));
    quoted.parse().map_err(|error: crate::ike::auth::IdentityError| Error::Name(name.into(), error.to_string()))
}

/// Without the kind, as a common name shows it.
fn bare(id: &Identity) -> String {
    let text = id.to_string();
    text.split_once(':').map_or(text.clone(), |(_, bare)| bare.into())
}

fn alternative(id: &Identity) -> Option<Result<SanType, Error>> {
    let ascii = |text: &String| text.as_str().try_into().map_err(Error::Make);
    match id {
        Identity::Fqdn(name) => Some(ascii(name).map(SanType::DnsName)),
        Identity::Email(mailbox) => Some(ascii(mailbox).map(SanType::Rfc822Name)),
        Identity::Ipv4(address) => Some(Ok(SanType::IpAddress((*address).into()))),
        Identity::Ipv6(address) => Some(Ok(SanType::IpAddress((*address).into()))),
        Identity::Dn(_) => None,
    }
}

/// Part for part, in the kinds of string that the identity has.
fn distinguished_name(subject: &Identity) -> Result<DistinguishedName, Error> {
    let unusable = |why: &str| Error::Name(subject.to_string(), why.into());
    let Identity::Dn(der) = subject else { return Err(unusable("it is no distinguished name")) };
    let (_, name) = X509Name::from_der(der).map_err(|_| unusable("it is malformed"))?;
    let mut made = DistinguishedName::new();
    for attribute in name.iter_attributes() {
        let arcs: Vec<u64> = attribute.attr_type().iter().map(Iterator::collect).unwrap_or_default();
        let (kind, text) = (DnType::from_oid(&arcs), attribute.as_str().unwrap_or_default());
        if made.get(&kind).is_some() {
            return Err(unusable("it has two parts of one type, which cannot be made here"));
        }
        let value = match attribute.attr_value().tag() {
            x509_parser::der_parser::asn1_rs::Tag::PrintableString => DnValue::PrintableString(text.try_into()?),
            x509_parser::der_parser::asn1_rs::Tag::Ia5String => DnValue::Ia5String(text.try_into()?),
            _ => DnValue::Utf8String(text.into()),
        };
        made.push(kind, value);
    }
    Ok(made)
}

fn validity(der: &[u8]) -> Option<(Date, Date)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let date = |seconds: i64| Date(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    Some((date(validity.not_before.timestamp()), date(validity.not_after.timestamp())))
}

/// The authority, and until when it may vouch.
fn read_ca(ca: &Path, ca_key: &Path, now: Date) -> Result<(Issuer<'static, KeyPair>, Date), KeygenError> {
    let read = |path: &Path| {
        let read = std::fs::read_to_string(path).map(Text::new);
        read.map_err(|source| KeygenError::Read { path: path.into(), source })
    };
    let (certificate, key) = (read(ca)?, read(ca_key)?);
    let key = KeyPair::from_pem(&key).map_err(|_| Error::MalformedKey(ca_key.into()))?;
    let malformed = || Error::MalformedCa(ca.into());
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|_| malformed())?;
    let (_, read) = X509Certificate::from_der(&pem.contents).map_err(|_| malformed())?;
    if !read.is_ca() {
        return Err(Error::NoCa(ca.into()).into());
    }
    if read.public_key().raw != key.subject_public_key_info() {
        return Err(Error::Mismatch { key: ca_key.into(), ca: ca.into() }.into());
    }
    let (from, until) = validity(&pem.contents).ok_or_else(malformed)?;
    if !(from..=until).contains(&now) {
        return Err(Error::CaNotValid { path: ca.into(), from, until }.into());
    }
    let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|_| malformed())?;
    Ok((issuer, until))
}

#[cfg(test)]
mod tests;
