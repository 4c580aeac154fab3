//! Documents that are made from the code stay as the code is. `IXGATE_REGENERATE=1 cargo test --test docs` writes them.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use ixgate::packet::DropReason;

#[test]
fn drop_reasons_page_is_what_the_code_says() {
    let mut page = String::from(
        "# Why a packet did not pass\n\n\
         Every packet that comes in is forwarded, answered by the IX, or dropped with exactly one of these reasons. `ixgate status`\n\
         shows them per realm, `ixgate metrics` counts them. This page is made from `src/packet/drop_reason.rs`.\n\n\
         | reason | what happened | whose side | what to do |\n|---|---|---|---|\n",
    );
    for reason in DropReason::ALL {
        let (name, what, side, remedy) = (reason.name(), reason.what(), reason.side().name(), reason.remedy());
        writeln!(page, "| `{name}` | {what} | {side} | {remedy} |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/drop-reasons.md");
    if env::var_os("IXGATE_REGENERATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/drop-reasons.md is not what the code says; run: IXGATE_REGENERATE=1 cargo test --test docs"
    );
}
