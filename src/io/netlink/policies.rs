//! Whether the kernel has IPsec policies of its own (xfrm): who sends past its stack must not send past those.

use std::io;

use super::message::{HEADER_BYTES, NLM_F_REQUEST, attributes, parts, u32_at};
use super::socket::{BUFFER_BYTES, Socket};

// linux/xfrm.h
const XFRM_MSG_NEWSPDINFO: u16 = 0x24;
const XFRM_MSG_GETSPDINFO: u16 = 0x25;
const XFRMA_SPD_INFO: u16 = 1;

/// For what comes in or goes out; those of single sockets do not count. Needs CAP_NET_ADMIN. A kernel without IPsec has none.
pub fn are_there() -> io::Result<bool> {
    let socket = match Socket::open_for_policies() {
        Ok(socket) => socket,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    socket.send(&request())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let len = socket.receive(&mut buffer)?.unwrap_or(0);
    read(&buffer[..len])
}

fn request() -> Vec<u8> {
    let mut bytes = ((HEADER_BYTES + 4) as u32).to_ne_bytes().to_vec();
    bytes.extend(XFRM_MSG_GETSPDINFO.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.resize(HEADER_BYTES + 4, 0);
    bytes
}

fn read(datagram: &[u8]) -> io::Result<bool> {
    for part in parts(datagram) {
        if let Some(error) = part.error().filter(|_| part.kind != XFRM_MSG_NEWSPDINFO) {
            return Err(io::Error::from_raw_os_error(error));
        }
        let info = attributes(part.body.get(4..).unwrap_or_default()).find(|(kind, _)| *kind == XFRMA_SPD_INFO);
        // In, out, to be forwarded.
        if let Some((inward, outward)) = info.and_then(|(_, info)| Some((u32_at(info, 0)?, u32_at(info, 4)?))) {
            return Ok(inward > 0 || outward > 0);
        }
    }
    Err(io::Error::other("the kernel does not tell whether it has IPsec policies"))
}

#[cfg(test)]
mod tests {
    use super::super::message::NLMSG_ERROR;
    use super::super::message::tests::{attribute, message};
    use super::*;
    use crate::io::frames::testbed::{in_namespace, try_sh};

    #[test]
    fn counts_are_read_and_errors_told() {
        let with = |counts: [u32; 6]| {
            let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_ne_bytes()).collect();
            let body = [vec![0; 4], attribute(XFRMA_SPD_INFO, &counts)].concat();
            read(&message(XFRM_MSG_NEWSPDINFO, 0, &body)).unwrap()
        };
        assert!(with([1, 0, 0, 0, 0, 0]) && with([0, 2, 0, 0, 0, 0]));
        assert!(!with([0, 0, 7, 0, 0, 0]) && !with([0, 0, 0, 3, 3, 0]), "to be forwarded, and of sockets");
        let refused = read(&message(NLMSG_ERROR, 0, &(-1_i32).to_ne_bytes())).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert!(read(&[]).is_err() && read(&message(XFRM_MSG_NEWSPDINFO, 0, &[0; 2])).is_err());
    }

    #[test]
    fn the_kernels_own_are_seen() {
        in_namespace(|| {
            assert!(!are_there().unwrap());
            let add = "ip xfrm policy add src 10.0.0.0/8 dst 10.99.0.0/16 dir out tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode tunnel";
            if let Err(why) = try_sh(add) {
                return eprintln!("NOT RUN: no IPsec in this kernel: {why}");
            }
            assert!(are_there().unwrap());
        });
    }
}
