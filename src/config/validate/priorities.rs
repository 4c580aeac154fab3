//! `priority` and `weight` of a realm's attachments: in all of them or in none, and no share without somebody to share with.

use crate::config::diagnostic::Problems;
use crate::config::raw;

/// What each attachment has, in the order of the file.
pub fn priorities(realm: &raw::Realm, problems: &mut Problems) -> Vec<(u8, u8)> {
    let attachments = &realm.attachments;
    let written = attachments.iter().find_map(|attachment| attachment.priority.as_ref());
    for attachment in attachments {
        match (written, &attachment.priority, &attachment.weight) {
            (Some(written), None, _) if !attachment.has_priority => {
                problems
                    .error(&attachment.span, "`priority` is missing in this [[realm.attach]]")
                    .why("another attachment of the realm has one, so the order of the file no longer says which is preferred")
                    .remedy("give every attachment of the realm a `priority`, or none")
                    .also(&written.span, "the other one is here");
            }
            (None, None, Some(weight)) if !attachment.has_priority => {
                problems
                    .error(&weight.span, "`weight` without `priority`")
                    .why("without it the first attachment that is up carries everything, and there is nothing to share")
                    .remedy("give the attachments that share the same `priority`, or remove `weight`");
            }
            (_, Some(priority), Some(weight)) => {
                let equal = attachments.iter().filter_map(|other| other.priority.as_ref());
                if equal.filter(|other| other.value == priority.value).count() == 1 {
                    problems
                        .warning(
                            &weight.span,
                            format!("no other attachment of the realm has `priority = {}`", priority.value),
                        )
                        .why("flows are shared among attachments of the same priority, so this weight has no effect")
                        .remedy("give those that share the same `priority`, or remove `weight`");
                }
            }
            _ => {}
        }
    }
    let byte = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    let of = |(order, attachment): (u8, &raw::Attachment)| {
        let priority = attachment.priority.as_ref().map_or(order, |priority| byte(priority.value));
        (priority, attachment.weight.as_ref().map_or(1, |weight| byte(weight.value)))
    };
    (0..).zip(attachments).map(of).collect()
}
