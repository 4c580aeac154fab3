"""What the name servers of the scenario hold."""

HOSPITAL, CLINIC, INSIDE_REVERSE = "hospital-b.local", "clinic-c.local", "1.168.192.in-addr.arpa"
# Domains outside all realms, by how the IX asks for them.
BY_UDP, BY_TLS, BY_UDP6, BY_TLS6, BY_WRONG_NAME = (
    "udp.example", "tls.example", "udp6.example", "tls6.example", "wrong.example")
OUTSIDE = [BY_UDP, BY_TLS, BY_UDP6, BY_TLS6, BY_WRONG_NAME]
OUTSIDE_A, OUTSIDE_AAAA = "203.0.113.80", "2001:db8:80::80"

# Lengths of answers in bytes, about: each crosses another limit of UDP.
LONG = [600, 1500, 5000, 40_000]
MANY = 100  # addresses of one name


def hospital_lines():
    """unbound's: local data, which it gives without following aliases."""
    records = [
        "pacs A 192.168.1.20", "pacs AAAA fd00:b::20", "mail A 192.168.1.30", "mail AAAA fd00:b::30",
        "both A 192.168.1.20", "both A 192.168.1.30", "stray A 10.77.0.1", "xray A 192.168.1.40",
        f"images CNAME pacs.{HOSPITAL}.", f"loop CNAME loop.{CLINIC}.",
        "web HTTPS 1 . alpn=h2 ipv4hint=192.168.1.20,192.168.1.30 ipv6hint=fd00:b::20,fd00:b::30",
    ]
    lines = [f'local-zone: "{HOSPITAL}." static', f'local-zone: "{INSIDE_REVERSE}." static']
    for record in records:
        name, _, data = record.partition(" ")
        lines.append(f"local-data: '{name}.{HOSPITAL}. 300 IN {data}'")
    lines += [f"local-data: 'long{size}.{HOSPITAL}. 300 IN TXT {text}'" for size in LONG for text in texts(size)]
    # Any name below `any` is there, so that a question can be new to the IX.
    lines += [f'local-zone: "any.{HOSPITAL}." redirect', f'local-data: "any.{HOSPITAL}. 300 IN A 192.168.1.20"',
              f'local-data-ptr: "192.168.1.40 300 xray.{HOSPITAL}"']
    return lines


def clinic_zones():
    """named's."""
    return {CLINIC: zone(CLINIC, clinic_records()), INSIDE_REVERSE: zone(INSIDE_REVERSE, [f"77 PTR desk.{CLINIC}."])}


def clinic_records():
    return [
        "desk A 192.168.1.77", "chain1 CNAME chain2", "chain2 CNAME chain3", "chain3 CNAME desk",
        f"to-hospital CNAME pacs.{HOSPITAL}.", f"to-mail CNAME mail.{HOSPITAL}.", "to-service CNAME pacs.ix.example.",
        f"to-outside CNAME www.{BY_UDP}.", "to-nowhere CNAME www.nobody.test.", f"loop CNAME loop.{HOSPITAL}.",
        f"_dns SVCB 1 ns.{CLINIC}. alpn=dot port=853 ipv4hint=192.168.1.53",
        *(f"long{size} TXT {text}" for size in LONG for text in texts(size)),
        *(f"many A 192.168.1.{1 + number}" for number in range(MANY)),
    ]


def zone(origin, records):
    """A zone's file."""
    head = [f"$ORIGIN {origin}.", "$TTL 300", f"@ SOA ns.{CLINIC}. hostmaster.{CLINIC}. 1 3600 600 86400 60",
            f"@ NS ns.{CLINIC}.", *(["ns A 192.168.1.53"] if origin == CLINIC else [])]
    return "\n".join([*head, *records, ""])


def texts(size):
    """TXT records of about `size` bytes together, no two alike. BIND takes 100 records of a type: so several strings in each."""
    strings = [f'"{number:04}{"x" * 236}"' for number in range(size // 250)]
    return [" ".join(strings[at : at + 4]) for at in range(0, len(strings), 4)]


def outside_lines():
    lines = []
    for domain in OUTSIDE:
        lines += [f'local-zone: "{domain}." static', f'local-data: "www.{domain}. 300 IN A {OUTSIDE_A}"',
                  f'local-data: "www.{domain}. 300 IN AAAA {OUTSIDE_AAAA}"',
                  f'local-data: "inside.{domain}. 300 IN A 10.0.0.1"', f'local-data: "inside.{domain}. 300 IN AAAA fd00:b::30"']
        lines += [f"local-data: 'long.{domain}. 300 IN TXT {text}'" for text in texts(5000)]
    return lines
