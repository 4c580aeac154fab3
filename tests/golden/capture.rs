//! Captures of inner packets as pcapng (draft-ietf-opsawg-pcapng): one interface for each realm, named after it, of link
//! type RAW, so that tshark and Wireshark open them as they are. A packet's comment says what it is.

use std::fmt::Write as _;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const LINKTYPE_RAW: u16 = 101;
const OPTION_COMMENT: u16 = 1;
const OPTION_IF_NAME: u16 = 2;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capture {
    /// The interfaces, by number.
    pub realms: Vec<String>,
    pub packets: Vec<Captured>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// Index in [`Capture::realms`].
    pub realm: usize,
    /// Microseconds of Unix time.
    pub at: u64,
    pub comment: String,
    pub bytes: Vec<u8>,
}

impl Capture {
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Version 1.0, of unknown length.
        let body = [&BYTE_ORDER.to_le_bytes()[..], &1u16.to_le_bytes(), &0u16.to_le_bytes(), &[0xff; 8]].concat();
        block(&mut out, SECTION, &body);
        for realm in &self.realms {
            let mut body = [&LINKTYPE_RAW.to_le_bytes()[..], &[0; 2], &0u32.to_le_bytes()].concat();
            option(&mut body, OPTION_IF_NAME, realm.as_bytes());
            block(&mut out, INTERFACE, &body);
        }
        for packet in &self.packets {
            let words = [
                packet.realm as u32,
                (packet.at >> 32) as u32,
                packet.at as u32,
                packet.bytes.len() as u32,
                packet.bytes.len() as u32,
            ];
            let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            padded(&mut body, &packet.bytes);
            option(&mut body, OPTION_COMMENT, packet.comment.as_bytes());
            block(&mut out, ENHANCED_PACKET, &body);
        }
        out
    }

    /// Only what [`Capture::emit`] and Wireshark write on a little-endian machine, with times in microseconds.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut capture = Capture::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = word(rest, 4)? as usize;
            let block = rest.get(..len).filter(|_| len >= 12).ok_or("a block is cut off")?;
            let body = &block[8..len - 4];
            match word(block, 0)? {
                SECTION if word(body, 0)? != BYTE_ORDER => return Err("not little-endian".into()),
                INTERFACE => {
                    let name = find_option(body.get(8..).ok_or("a short interface")?, OPTION_IF_NAME);
                    capture.realms.push(name.ok_or("an interface without a name")?);
                }
                ENHANCED_PACKET => capture.packets.push(captured(body)?),
                _ => {}
            }
            rest = &rest[len..];
        }
        Ok(capture)
    }
}

fn captured(body: &[u8]) -> Result<Captured, String> {
    let len = word(body, 12)? as usize;
    let bytes = body.get(20..20 + len).ok_or("a packet is cut off")?.to_vec();
    let options = body.get(20 + len.next_multiple_of(4)..).unwrap_or_default();
    let at = u64::from(word(body, 4)?) << 32 | u64::from(word(body, 8)?);
    let comment = find_option(options, OPTION_COMMENT).unwrap_or_default();
    Ok(Captured { realm: word(body, 0)? as usize, at, comment, bytes })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, String> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_le_bytes).ok_or_else(|| "a block is cut off".to_owned())
}

fn find_option(mut options: &[u8], wanted: u16) -> Option<String> {
    while let [a, b, c, d, rest @ ..] = options {
        let (code, len) = (u16::from_le_bytes([*a, *b]), usize::from(u16::from_le_bytes([*c, *d])));
        if code == wanted {
            return rest.get(..len).map(|text| String::from_utf8_lossy(text).into_owned());
        }
        options = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let len = (body.len() + 12) as u32;
    out.extend([&kind.to_le_bytes()[..], &len.to_le_bytes(), body, &len.to_le_bytes()].concat());
}

/// With the end of options behind it.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
    body.extend([0; 4]);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Where two captures differ, in words, or nothing.
pub fn difference(expected: &Capture, got: &Capture) -> Option<String> {
    if expected == got {
        return None;
    }
    let mut said = String::new();
    if expected.realms != got.realms {
        writeln!(said, "the realms are {:?}, expected {:?}", got.realms, expected.realms).unwrap();
    }
    for at in 0..expected.packets.len().max(got.packets.len()) {
        match (expected.packets.get(at), got.packets.get(at)) {
            (Some(e), Some(g)) if e == g => {}
            (Some(e), Some(g)) => changed(&mut said, at + 1, (e, expected), (g, got)),
            (Some(e), None) => only(&mut said, "is missing", at + 1, e, expected),
            (None, Some(g)) => only(&mut said, "is not expected", at + 1, g, got),
            (None, None) => {}
        }
    }
    Some(said)
}

fn changed(said: &mut String, number: usize, (e, expected): (&Captured, &Capture), (g, got): (&Captured, &Capture)) {
    writeln!(said, "packet {number}:").unwrap();
    if (e.realm, e.at, &e.comment) != (g.realm, g.at, &g.comment) {
        writeln!(said, "  expected {}\n  got      {}", headline(e, expected), headline(g, got)).unwrap();
    }
    let differs = |at: &usize| e.bytes.get(*at) != g.bytes.get(*at);
    let offsets: Vec<usize> = (0..e.bytes.len().max(g.bytes.len())).filter(differs).collect();
    if !offsets.is_empty() {
        let some: Vec<_> = offsets.iter().take(16).map(|at| format!("{at:#x}")).collect();
        writeln!(said, "  {} bytes differ, at {}", offsets.len(), some.join(" ")).unwrap();
        writeln!(said, "  expected, {} bytes:\n{}", e.bytes.len(), hexdump(&e.bytes)).unwrap();
        writeln!(said, "  got, {} bytes:\n{}", g.bytes.len(), hexdump(&g.bytes)).unwrap();
    }
}

fn only(said: &mut String, what: &str, number: usize, packet: &Captured, of: &Capture) {
    writeln!(said, "packet {number} {what}: {}\n{}", headline(packet, of), hexdump(&packet.bytes)).unwrap();
}

fn headline(packet: &Captured, of: &Capture) -> String {
    let realm = of.realms.get(packet.realm).map_or("nowhere", String::as_str);
    format!("{realm}, {} us, {}", packet.at, packet.comment)
}

/// As `text2pcap` reads it; of long packets the first 256 bytes.
fn hexdump(bytes: &[u8]) -> String {
    let mut said = String::new();
    for (number, line) in bytes[..bytes.len().min(256)].chunks(16).enumerate() {
        let octets: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(said, "    {:04x}  {}", number * 16, octets.join(" ")).unwrap();
    }
    said
}
