//! Asks for names of other realms' domains, and is the resolvers that are asked.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ixgate::sim::lan::Arrival;
use ixgate::sim::packets::{udp, verify};
use ixgate::wire::headers::Transport;

use super::cases::extended_error;
use super::foreign::{Data, Domain, reverse_name, text};
use super::hold::Held;
use super::resolver::Told;
use super::view::Host;

const TTL_SECS: u32 = 600;
/// Questions on the way to one answer.
const MAX_QUESTIONS: usize = 40;

impl Held<'_> {
    /// One question; the answer and the way to it are as the reference says.
    pub fn foreign_name(&mut self, domains: &[Domain]) {
        self.tally.count("cases", true);
        let asker = loop {
            let asker = self.some_asker();
            if self.world().realms[asker.realm].resolver != Some(asker.addr) {
                break asker;
            }
        };
        if self.random.permille(250) {
            return self.foreign_address(domains, asker);
        }
        let of = &self.world().realms[self.random.below(domains.len() as u64) as usize].name;
        let name = format!("n{}.{of}.local", self.random.below(7));
        let record_type = [RecordType::A, RecordType::AAAA, RecordType::HTTPS][self.random.below(3) as usize];
        let expected = self.view.resolve_anywhere(domains, asker.realm, &name, record_type);
        self.expect_told(domains, asker, &name, record_type, expected);
    }

    fn foreign_address(&mut self, domains: &[Domain], asker: Host) {
        let addr = self.some_address(asker, false);
        let expected = self.view.resolve_address_anywhere(domains, asker.realm, addr);
        self.tally.count("names of addresses", !expected.records.is_empty());
        self.expect_told(domains, asker, &reverse_name(addr), RecordType::PTR, expected);
    }

    fn expect_told(&mut self, domains: &[Domain], asker: Host, name: &str, record_type: RecordType, expected: Told) {
        let mut expected = expected;
        self.doing =
            format!("{asker:?} asks for {name} {record_type}, of which the reference says {expected:?}\n{domains:#?}");
        let mut told = told(&self.ask_foreign(domains, asker, name, record_type));
        expected.records.sort_unstable();
        told.records.sort_unstable();
        assert_eq!(told, expected, "{}", self.doing);
        self.tally.count("told something", !told.records.is_empty());
        self.tally.count("told why not", told.extended_error.is_some());
    }

    fn ask_foreign(&mut self, domains: &[Domain], asker: Host, name: &str, record_type: RecordType) -> Message {
        let mut message = Message::new(self.random.draw() as u16, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), record_type));
        message.set_edns(Edns::new());
        let dns = self.view.ix(asker.realm, 53, asker.addr.is_ipv6());
        let asked = udp((asker.addr, 40_000), (dns, 53), &message.to_vec().unwrap());
        let mut waiting: Vec<Arrival> = self.lan.send(asker.realm, &asked);
        for _ in 0..MAX_QUESTIONS {
            let (at, headers, bytes) = self.single(&waiting);
            let Transport::Udp { source_port, destination_port } = headers.transport else { panic!("{}", self.doing) };
            let payload = Message::from_vec(&bytes[headers.transport_offset + 8..]).unwrap();
            if payload.metadata.message_type == MessageType::Response {
                assert_eq!((at, headers.source, headers.destination), (asker.realm, dns, asker.addr), "{}", self.doing);
                return payload;
            }
            // To the realm's resolver, from the IX as the realm sees it.
            let resolver = self.world().realms[at].resolver.expect("a resolver");
            let to_resolver = (self.view.ix(at, 53, resolver.is_ipv6()), resolver, 53);
            assert_eq!((headers.source, headers.destination, destination_port), to_resolver, "{}", self.doing);
            let answer = answer(&payload, &domains[at], &format!("{}.local", self.world().realms[at].name));
            let answer = udp((resolver, 53), (headers.source, source_port), &answer.to_vec().unwrap());
            verify(&answer).unwrap();
            waiting = self.lan.send(at, &answer);
        }
        panic!("no end: {}", self.doing);
    }
}

fn answer(query: &Message, domain: &Domain, domain_name: &str) -> Message {
    let question = &query.queries[0];
    let name = question.name().to_ascii().to_lowercase();
    let said = domain.say(domain_name, name.trim_end_matches('.'), question.query_type());
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_query(question.clone());
    answer.metadata.response_code = said.code;
    let record = |name: &str, data: RData| Record::from_rdata(absolute(name), TTL_SECS, data);
    for (name, target) in &said.aliases {
        answer.add_answer(record(name, RData::CNAME(CNAME(absolute(target)))));
    }
    for data in &said.records {
        answer.add_answer(record(&said.name, rdata(data)));
    }
    if said.records.is_empty() && !said.leads_out {
        let soa = SOA::new(absolute(domain_name), absolute(domain_name), 1, 60, 60, 60, 60);
        answer.add_authority(record(domain_name, RData::SOA(soa)));
    }
    answer
}

fn rdata(data: &Data) -> RData {
    match data {
        Data::Address(IpAddr::V4(addr)) => RData::A(A(*addr)),
        Data::Address(IpAddr::V6(addr)) => RData::AAAA(AAAA(*addr)),
        Data::Alias(target) => RData::CNAME(CNAME(absolute(target))),
        Data::Name(target) => RData::PTR(PTR(absolute(target))),
        Data::Hints(hints) => {
            let v4: Vec<A> = hints
                .iter()
                .filter_map(|hint| if let IpAddr::V4(addr) = hint { Some(A(*addr)) } else { None })
                .collect();
            let v6: Vec<AAAA> = hints
                .iter()
                .filter_map(|hint| if let IpAddr::V6(addr) = hint { Some(AAAA(*addr)) } else { None })
                .collect();
            let mut params = Vec::new();
            if !v4.is_empty() {
                params.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(v4))));
            }
            if !v6.is_empty() {
                params.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(v6))));
            }
            RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), params)))
        }
    }
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}

fn told(answer: &Message) -> Told {
    let of = |record: &Record| {
        let name = record.name.to_ascii();
        let data = match &record.data {
            RData::A(addr) => Data::Address(addr.0.into()),
            RData::AAAA(addr) => Data::Address(addr.0.into()),
            RData::CNAME(target) => Data::Alias(target.0.to_ascii().trim_end_matches('.').to_owned()),
            RData::PTR(target) => Data::Name(target.0.to_ascii().trim_end_matches('.').to_owned()),
            RData::HTTPS(https) => Data::Hints(https.0.svc_params.iter().flat_map(|(_, value)| hints(value)).collect()),
            other => panic!("{other:?} was not asked for"),
        };
        text(name.trim_end_matches('.'), &data)
    };
    Told {
        code: answer.metadata.response_code,
        records: answer.answers.iter().map(of).collect(),
        extended_error: extended_error(answer),
    }
}

fn hints(value: &SvcParamValue) -> Vec<IpAddr> {
    match value {
        SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|addr| addr.0.into()).collect(),
        SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|addr| addr.0.into()).collect(),
        _ => Vec::new(),
    }
}
