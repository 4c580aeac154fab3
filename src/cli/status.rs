//! `ixgate status [REALM]`: what the running appliance does.

use std::process::ExitCode;

use super::output::{fail, fail_to_ask, json, print};
use crate::control::client::{self, ADDRESS_VARIABLE, ApiAddress, ClientError};
use crate::telemetry::status::{DEFAULT_WINDOW_SECS, Status};
use crate::telemetry::status_mtu::MtuMap;
use crate::telemetry::status_text;

/// Show realms, tunnels, traffic and drops of the running appliance.
///
/// With REALM: that realm in full, with every reason for which its packets were dropped, whose side the cause is on, and
/// what to do about it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only this realm, in full.
    pub realm: Option<String>,
    /// Print what every tunnel carries and how that is known, and for each pair of realms the MTU and TCP's MSS.
    #[arg(long, conflicts_with = "realm")]
    pub mtu: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// How far "data passed lately" looks back, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WINDOW_SECS, value_parser = clap::value_parser!(u64).range(1..))]
    pub window: u64,
    /// Where the appliance is [default: unix:state/ixgate.sock].
    #[arg(long, value_name = "ADDRESS", env = ADDRESS_VARIABLE)]
    pub api: Option<String>,
}

pub fn run(args: &Args) -> ExitCode {
    let status = match fetch(args) {
        Ok(status) => status,
        Err(error) => return fail_to_ask(&error),
    };
    match render(&status, args) {
        Ok(text) => print(&text),
        Err(words) => fail(1, &words),
    }
}

fn fetch(args: &Args) -> Result<Status, ClientError> {
    let address = ApiAddress::find(args.api.as_deref())?;
    let body = client::get(&address, &format!("/v1/status?window_secs={}", args.window))?;
    serde_json::from_str(&body).map_err(|error| ClientError::Answer(error.to_string()))
}

fn render(status: &Status, args: &Args) -> Result<String, String> {
    if args.mtu {
        let map = MtuMap::of(status);
        return Ok(if args.json { json(&map) } else { map.to_string() });
    }
    let Some(name) = &args.realm else {
        return Ok(if args.json { json(status) } else { status_text::overview(status) });
    };
    let Some(realm) = status.realm(name) else {
        let known: Vec<_> = status.realms.iter().map(|realm| realm.name.as_str()).collect();
        return Err(format!("there is no realm \"{name}\"; there are: {}", known.join(", ")));
    };
    Ok(if args.json { json(realm) } else { status_text::details(status, realm) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::source::samples::three_realms;
    use crate::telemetry::status::RealmStatus;

    fn args(realm: Option<&str>, json: bool) -> Args {
        Args { realm: realm.map(str::to_owned), mtu: false, json, window: 60, api: None }
    }

    #[test]
    fn all_realms_or_one_in_words_or_json() {
        let status = Status::of(&three_realms(), Duration::from_secs(60));
        assert!(render(&status, &args(None, false)).unwrap().contains("REALM "));
        assert!(render(&status, &args(Some("region-a"), false)).unwrap().starts_with("realm region-a"));
        let all: Status = serde_json::from_str(&render(&status, &args(None, true)).unwrap()).unwrap();
        assert_eq!(all, status);
        let one: RealmStatus = serde_json::from_str(&render(&status, &args(Some("planned-c"), true)).unwrap()).unwrap();
        assert_eq!(one.number, 3);
        let map = Args { mtu: true, ..args(None, false) };
        assert!(render(&status, &map).unwrap().starts_with("REALM "));
        let map: MtuMap = serde_json::from_str(&render(&status, &Args { json: true, ..map }).unwrap()).unwrap();
        assert_eq!(map, MtuMap::of(&status));
        let words = render(&status, &args(Some("nobody"), false)).unwrap_err();
        assert_eq!(words, "there is no realm \"nobody\"; there are: region-a, hospital-b, planned-c");
    }
}
