//! What an idle tunnel holds.

use super::gateways::{Appliance, Peer};
use super::handshake::shake_hands;
use super::meters::{heap_bytes, resident_bytes};
use super::methods::{Credentials, Method};

const TUNNELS: usize = 10_000;
const QUICK_TUNNELS: usize = 1000;
/// Made before it counts, so that what there is once is there.
const WARM_UP: usize = 100;

pub fn measure(quick: bool) {
    let tunnels = if quick { QUICK_TUNNELS } else { TUNNELS };
    println!("\nmemory of one idle tunnel (IKE SA and Child SA), over {tunnels} tunnels");
    println!("{:<30} {:>12} {:>15}", "method", "heap, bytes", "resident, bytes");
    for method in [Method::Psk, Method::Ecdsa] {
        let credentials = Credentials::new(method);
        let mut appliance = Appliance::new(method, &credentials, tunnels + WARM_UP, false);
        let mut establish = |peers: std::ops::Range<usize>| {
            for number in peers {
                shake_hands(&mut appliance, &mut [Peer::new(method, &credentials, number, true)]);
            }
        };
        establish(0..WARM_UP);
        let (heap, resident) = (heap_bytes(), resident_bytes());
        establish(WARM_UP..tunnels + WARM_UP);
        let per_tunnel = |grown: isize| grown as f64 / tunnels as f64;
        let (heap, resident) = (per_tunnel(heap_bytes() - heap), per_tunnel(resident_bytes() - resident));
        assert_eq!(appliance.sas(), (tunnels + WARM_UP, tunnels + WARM_UP));
        println!("{:<30} {heap:>12.0} {resident:>15.0}", method.words());
    }
}
