//! The system calls about interfaces and of the drivers, each in a safe wrapper that checks nothing but what soundness needs.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_ulong, c_void};
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use ipnet::IpNet;

use crate::net::Mac;

pub use crate::io::udp::sys::{option, set_option, wait_writable};

/// A new non-blocking packet socket that receives nothing yet; needs CAP_NET_RAW.
pub fn open_packet() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    owned(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })
}

/// The interface that it was bound to is still there.
pub fn is_packet_bound(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: plain C data; all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is `len` writable bytes; both outlive the call.
    let result = unsafe { libc::getsockname(fd.as_raw_fd(), ptr::from_mut(&mut address).cast(), &mut len) };
    result == 0 && address.sll_ifindex > 0
}

/// From now on it receives every frame of the interface. 0 for `protocol`: none, it only sends.
pub fn bind_packet(fd: BorrowedFd<'_>, interface_index: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface_index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is `len` initialised bytes that outlive the call, which only reads them.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })
}

/// As long as the socket is open, its interface lets in what is sent to any group.
pub fn hear_all_groups(fd: BorrowedFd<'_>, interface_index: u32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: interface_index as i32,
        mr_type: libc::PACKET_MR_ALLMULTI as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let len = size_of_val(&membership) as libc::socklen_t;
    let value = ptr::from_ref(&membership).cast();
    // SAFETY: `membership` is plain C data of `len` bytes that outlives the call, which only reads it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value, len) })
}

/// Rings of slots in memory that the kernel shares.
pub fn set_ring(fd: BorrowedFd<'_>, name: c_int, request: &libc::tpacket_req) -> io::Result<()> {
    let len = size_of_val(request) as libc::socklen_t;
    // SAFETY: `request` is plain C data of `len` bytes that outlives the call, which only reads it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, name, ptr::from_ref(request).cast(), len) })
}

/// Frames that came, and of those, frames that found no room; since the last call.
pub fn packet_statistics(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of_val(&stats) as libc::socklen_t;
    let out = ptr::from_mut(&mut stats).cast();
    // SAFETY: `out` is `len` writable bytes; both outlive the call.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, out, &mut len) })?;
    Ok((stats.tp_packets, stats.tp_drops))
}

/// Memory shared with the kernel, until dropped.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    len: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; all access goes through the one who has the Mapping.
unsafe impl Send for Mapping {}

impl Mapping {
    /// All of what `fd` shares.
    pub fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: the kernel chooses an address range that nothing else uses.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd.as_raw_fd(), 0) };
        match start {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            _ => Ok(Mapping { start: start.cast(), len }),
        }
    }

    /// Where `len` bytes from `offset` on lie.
    ///
    /// # Panics
    /// When they are not all in it.
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset, "within the mapping");
        // SAFETY: the offset is within the mapping.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no reference into it outlives its owner.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// Most parts of all messages of one call together.
pub const MAX_PARTS: usize = 512;
/// Most messages of one call.
pub const MAX_MESSAGES: usize = 32;

/// Messages to be sent in one call, each of parts that lie apart.
pub struct Outgoing<'a> {
    parts: [libc::iovec; MAX_PARTS],
    used: usize,
    /// Where each message's parts begin.
    starts: [usize; MAX_MESSAGES],
    messages: usize,
    borrowed: PhantomData<&'a [u8]>,
}

impl<'a> Outgoing<'a> {
    pub fn new() -> Self {
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Outgoing { parts: [empty; MAX_PARTS], used: 0, starts: [0; MAX_MESSAGES], messages: 0, borrowed: PhantomData }
    }

    /// Whether another message of so many parts finds room.
    pub fn has_room(&self, parts: usize) -> bool {
        self.messages < MAX_MESSAGES && self.used + parts <= MAX_PARTS
    }

    /// Begins a message.
    pub fn begin(&mut self) {
        self.starts[self.messages] = self.used;
        self.messages += 1;
    }

    /// The message goes on with these bytes.
    pub fn push(&mut self, part: &'a [u8]) {
        self.parts[self.used] = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        self.used += 1;
    }

    /// Sends them without waiting; how many were taken. An error is the first message's.
    pub fn send(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: plain C data; all zeroes (null pointers with zero lengths) is a valid value. Its padding differs between C
        // libraries.
        let mut headers: [libc::mmsghdr; MAX_MESSAGES] = unsafe { std::mem::zeroed() };
        for (number, header) in headers[..self.messages].iter_mut().enumerate() {
            let end = if number + 1 < self.messages { self.starts[number + 1] } else { self.used };
            let parts = &mut self.parts[self.starts[number]..end];
            header.msg_hdr.msg_iov = parts.as_mut_ptr();
            header.msg_hdr.msg_iovlen = parts.len() as _;
        }
        let (start, count) = (headers.as_mut_ptr(), self.messages as u32);
        // SAFETY: the headers point to parts within `self`, and those to initialised bytes borrowed for 'a; all outlive the call. The
        // kernel only reads them, and writes `msg_len` in the headers.
        let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), start, count, libc::MSG_DONTWAIT as _) };
        check(sent)?;
        Ok(sent as usize)
    }
}

/// One message of these parts, without waiting.
#[cfg(test)]
pub fn send(fd: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<()> {
    let mut outgoing = Outgoing::new();
    outgoing.begin();
    parts.iter().for_each(|part| outgoing.push(part));
    outgoing.send(fd).map(|_| ())
}

/// One message without waiting, into the parts in turn; how much came, and whether there was more.
pub fn receive(fd: BorrowedFd<'_>, parts: &mut [&mut [u8]; 2]) -> io::Result<(usize, bool)> {
    let mut vector =
        parts.each_mut().map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    // SAFETY: plain C data; all zeroes (null pointers with zero lengths) is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vector.as_mut_ptr();
    header.msg_iovlen = vector.len() as _;
    // SAFETY: the header points to two parts on this stack, each of writable bytes borrowed exclusively, that outlive the call.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut header, libc::MSG_DONTWAIT) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((received as usize, header.msg_flags & libc::MSG_TRUNC != 0))
}

/// Opens or makes a TUN device; needs CAP_NET_ADMIN, or that it was made for our user.
pub fn open_tun(name: &str) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: a string that ends with zero and outlives the call.
    let fd = owned(unsafe { libc::open(c"/dev/net/tun".as_ptr(), flags) })?;
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    // SAFETY: the request takes an ifreq, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, ptr::from_mut(&mut request)) })?;
    Ok(fd)
}

/// What may be left to the one who reads from the device.
pub fn set_tun_offload(fd: BorrowedFd<'_>, offload: u32) -> io::Result<()> {
    // SAFETY: the request takes a number, no pointer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD as _, c_ulong::from(offload)) })
}

/// The device is still there.
pub fn is_tun_attached(fd: BorrowedFd<'_>) -> bool {
    let mut request = interface_request("");
    // SAFETY: the request writes an ifreq, which outlives the call.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, ptr::from_mut(&mut request)) == 0 }
}

/// One packet, into the parts in turn: how much came.
pub fn read(fd: BorrowedFd<'_>, parts: &mut [&mut [u8]; 2]) -> io::Result<usize> {
    let vector = parts.each_mut().map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    // SAFETY: two parts of writable bytes, borrowed exclusively, that outlive the call.
    let count = unsafe { libc::readv(fd.as_raw_fd(), vector.as_ptr(), vector.len() as c_int) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// One packet of these parts, at most [`MAX_PARTS`].
pub fn write<'a>(fd: BorrowedFd<'_>, parts: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
    let mut outgoing = Outgoing::new();
    parts.for_each(|part| outgoing.push(part));
    // SAFETY: `used` parts of initialised bytes borrowed for 'a, which outlives the call; the kernel only reads them.
    let count = unsafe { libc::writev(fd.as_raw_fd(), outgoing.parts.as_ptr(), outgoing.used as c_int) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

pub fn set_mtu(name: &str, mtu_bytes: u32) -> io::Result<()> {
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_mtu = mtu_bytes as c_int;
    ask(libc::SIOCSIFMTU as c_ulong, &mut request)
}

pub fn bring_up(name: &str) -> io::Result<()> {
    let mut request = interface_request(name);
    ask(libc::SIOCGIFFLAGS as c_ulong, &mut request)?;
    // SAFETY: the call has written this member, plain bits.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if c_int::from(flags) & libc::IFF_UP != 0 {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as i16;
    ask(libc::SIOCSIFFLAGS as c_ulong, &mut request)
}

pub fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that ends with zero and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

pub fn mtu(name: &str) -> io::Result<u32> {
    let mut request = interface_request(name);
    ask(libc::SIOCGIFMTU as c_ulong, &mut request)?;
    // SAFETY: the call has written this member, an int.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.max(0) as u32)
}

/// `None`: no Ethernet interface.
pub fn mac(name: &str) -> io::Result<Option<Mac>> {
    let mut request = interface_request(name);
    ask(libc::SIOCGIFHWADDR as c_ulong, &mut request)?;
    // SAFETY: the call has written this member, plain bytes.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let bytes = std::array::from_fn(|at| address.sa_data[at] as u8);
    Ok((address.sa_family == libc::ARPHRD_ETHER).then_some(Mac(bytes)))
}

/// The names of all interfaces.
pub fn interface_names() -> Vec<String> {
    // SAFETY: no arguments; the list is freed below, once.
    let list = unsafe { libc::if_nameindex() };
    let mut names = Vec::new();
    if list.is_null() {
        return names;
    }
    let mut entry = list;
    loop {
        // SAFETY: the list ends with an entry whose name is null, and no entry behind that is read.
        let name = unsafe { (*entry).if_name };
        if name.is_null() {
            break;
        }
        // SAFETY: a string that ends with zero, and lives until the list is freed.
        names.push(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
        // SAFETY: there is at least the entry that ends the list.
        entry = unsafe { entry.add(1) };
    }
    // SAFETY: from if_nameindex, freed once; nothing refers to it any more.
    unsafe { libc::if_freenameindex(list) };
    names
}

/// Of both IP versions, with the lengths of their prefixes.
pub fn addresses(name: &str) -> io::Result<Vec<IpNet>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `list` outlives the call, which writes it.
    check(unsafe { libc::getifaddrs(&mut list) })?;
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: an entry of the list, which lives until it is freed; nobody writes to it.
        let entry = unsafe { &*next };
        // SAFETY: a string that ends with zero.
        let is_its_own = unsafe { CStr::from_ptr(entry.ifa_name) }.to_bytes() == name.as_bytes();
        if is_its_own && !entry.ifa_addr.is_null() {
            // SAFETY: an address whose size is that of its family.
            let address = unsafe { ip_address(entry.ifa_addr) };
            // SAFETY: as above, where it is not null.
            let mask = if entry.ifa_netmask.is_null() { None } else { unsafe { ip_address(entry.ifa_netmask) } };
            addresses.extend(address.map(|address| with_mask(address, mask)));
        }
        next = entry.ifa_next;
    }
    // SAFETY: from getifaddrs, freed once; nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// Of a point-to-point link, which has none, the address alone.
fn with_mask(address: IpAddr, mask: Option<IpAddr>) -> IpNet {
    mask.and_then(|mask| IpNet::with_netmask(address, mask).ok()).unwrap_or_else(|| address.into())
}

/// # Safety
/// `address` points to a socket address as long as its family says.
unsafe fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: every socket address begins with its family.
    match c_int::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says so; read without regard to alignment.
            let v4 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// A request about an interface, by its name, of at most 15 bytes.
fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: plain C data; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    for (to, byte) in request.ifr_name[..last].iter_mut().zip(name.bytes()) {
        *to = byte as _;
    }
    request
}

/// One ioctl about an interface, on any socket.
fn ask(request: c_ulong, argument: &mut libc::ifreq) -> io::Result<()> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let socket = owned(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the requests used here take an ifreq, which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), request as _, ptr::from_mut(argument).cast::<c_void>()) })
}

fn owned(fd: c_int) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: callers pass what a system call has just made: nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
