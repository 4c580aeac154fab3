"""DICOM between overlapping networks (dcmtk): C-ECHO, C-STORE, C-FIND, C-GET, and C-MOVE, whose archive calls back."""

import os
import re
import struct
import time
from hashlib import sha256

from lab.lib import probe
from lab.lib.netns import run
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario, Service, fqdn

ARCHIVE_PORT, RECEIVER_PORT = 11112, 11113
SIDE = 1024  # pixels of an image's side
IMAGES = 3
CLINICS = ["clinic", "practice"]
IDENTITY = {"patient": "Overlap^Anna", "study": "1.2.826.0.1.3680043.8.498.1"}
STUDY_ROOT = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={IDENTITY['study']}"]
# How long an archive waits for a workstation is its own affair; without a limit it would be TCP's minutes.
CONNECT_SECS = 4
NAME_SECS = 3
LIMIT_SECS = 30
# Not every client knows how to wait for an answer no longer than so.
TIMEOUT = {program: ["-td", 20] for program in ("storescu", "findscu", "movescu", "getscu")}

DUMP = """\
(0008,0016) UI =SecondaryCaptureImageStorage
(0008,0018) UI [{study}.{number}.1]
(0008,0060) CS [OT]
(0010,0010) PN [{patient}]
(0010,0020) LO [P1]
(0020,000d) UI [{study}]
(0020,000e) UI [{study}.{number}]
(0028,0002) US 1
(0028,0004) CS [MONOCHROME2]
(0028,0010) US {side}
(0028,0011) US {side}
(0028,0100) US 16
(0028,0101) US 16
(0028,0102) US 15
(0028,0103) US 0
(7fe0,0010) OW ={pixels}
"""

ARCHIVE_CONFIG = """\
NetworkTCPPort  = {port}
MaxPDUSize      = 65536
MaxAssociations = 16
HostTable BEGIN
{table}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {db} RW (9, 1024mb) ANY
AETable END
"""


def realm(name, host, **options):
    # The same address in all of them.
    return Realm(name, ["192.168.1.0/24"], [Host(host, ["192.168.1.10/24"])], **options)


SCENARIO = Scenario(
    realms=[realm("clinic", "pc"), realm("practice", "pc", calls="gateway"), realm("hospital", "pacs", ipsec=Ipsec())],
    services=[
        Service("archive", "pacs.hospital", [f"tcp/{ARCHIVE_PORT}"]),
        Service("receiver", "pc.clinic", [f"tcp/{RECEIVER_PORT}"]),
    ],
    grants=[
        Grant(["clinic", "practice"], ["archive"]),
        Grant(["hospital"], ["receiver"]),  # the call-back; nothing of the kind for the practice
    ],
)


def check(world, report):
    folder = world.directory / "dicom"
    folder.mkdir()
    images = make_images(folder)
    start_archive(world, folder)
    for name in CLINICS:
        start_receiver(world, folder, name)

    check_store(world, report, images)
    check_find(world, report)
    check_move(world, report, folder, images)
    check_no_call_back(world, report, folder)
    check_get(world, report, folder, images)
    check_agreed_later(world, report, folder, images)
    report.group("across IP versions")
    report.skip("an IPv4 clinic and an IPv6 archive", "dcmtk 3.6.7 opens no IPv6 sockets")
    report.group("the account")
    report.equal("in = out + drops", True, world.ixgate.balanced())


def make_images(folder):
    """Files with a few megabytes of pixels each: two written by dump2dcm, one out of a bitmap by img2dcm."""
    pixels = folder / "pixels.raw"
    files = [folder / f"image{n}.dcm" for n in range(1, IMAGES + 1)]
    for number, file in enumerate(files[:-1], start=1):
        pixels.write_bytes(os.urandom(2 * SIDE * SIDE))
        dump = folder / "image.dump"
        dump.write_text(DUMP.format(side=SIDE, pixels=pixels, number=number, **IDENTITY), encoding="ascii")
        run(["dump2dcm", "+te", dump, file])
    bitmap = folder / "image.bmp"
    bitmap.write_bytes(bitmap_header() + os.urandom(3 * SIDE * SIDE))
    keys = {"PatientName": IDENTITY["patient"], "PatientID": "P1", "StudyInstanceUID": IDENTITY["study"],
            "SeriesInstanceUID": f"{IDENTITY['study']}.9", "SOPInstanceUID": f"{IDENTITY['study']}.9.1"}
    run(["img2dcm", "-i", "BMP", *(word for k, v in keys.items() for word in ("-k", f"{k}={v}")), bitmap, files[-1]])
    return files


def bitmap_header():
    """Of a BMP file: a file header of 14 bytes, and one of 40 about the bitmap, of 24 bits a pixel."""
    length = 54 + 3 * SIDE * SIDE
    return struct.pack("<2sIII", b"BM", length, 0, 54) + struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, *[0] * 6)


def contents(files):
    """By SOP Instance UID: length and SHA-256 of the data set, pixels included. The file's own header, in which every
    program writes its name, and the choices of how to encode the data set are left out."""
    found = {}
    for file in list(files):
        uid = re.search(r"\[(.*)\]", run(["dcmdump", "+P", "SOPInstanceUID", file])).group(1)
        plain = file.with_name(f"{file.name}.plain")
        run(["dcmconv", "-F", "+te", "+e", "-g", file, plain])
        found[uid] = (plain.stat().st_size, sha256(plain.read_bytes()).hexdigest())
        plain.unlink()
    return found


def start_archive(world, folder):
    """dcmqrscp knows workstations by AE title: by name, and one by address, as it is in many archives."""
    (folder / "db").mkdir()
    hosts = {"CLINIC": fqdn("pc.clinic"), "PRACTICE": fqdn("pc.practice"), "BYADDRESS": world.seen("pc.practice")}
    table = "\n".join(f"{title.lower()} = ({title}, {host}, {RECEIVER_PORT})" for title, host in hosts.items())
    config = folder / "dcmqrscp.cfg"
    config.write_text(ARCHIVE_CONFIG.format(port=ARCHIVE_PORT, table=table, db=folder / "db"), encoding="ascii")
    world.spawn("pacs.hospital", ["dcmqrscp", "-v", "-to", CONNECT_SECS, "-c", config], "dcmqrscp")
    world.wait_for_port("pacs.hospital", ARCHIVE_PORT)


def start_receiver(world, folder, realm_name):
    received = folder / realm_name
    received.mkdir()
    world.spawn(f"pc.{realm_name}", ["storescp", "-v", "-aet", realm_name.upper(), "-od", received, RECEIVER_PORT], "storescp")
    world.wait_for_port(f"pc.{realm_name}", RECEIVER_PORT)


def scu(world, realm_name, program, options=(), files=()):
    """Runs a client at a workstation; it knows the archive by its name."""
    return world.host(f"pc.{realm_name}").run(
        [program, "-v", "-aet", realm_name.upper(), "-aec", "ARCHIVE", "-to", 5, "-ta", 10, *TIMEOUT.get(program, []),
         *options, fqdn("archive"), ARCHIVE_PORT, *files], timeout=LIMIT_SECS)


def check_store(world, report, images):
    report.group("C-ECHO and C-STORE")
    for name in CLINICS:
        echo = scu(world, name, "echoscu")
        report.that(f"C-ECHO from the {name}", "Received Echo Response (Success)" in echo.stdout, "Success", echo.stdout)
    store = scu(world, "clinic", "storescu", files=images)
    report.equal("C-STORE: images taken by the archive", IMAGES, store.stdout.count("Received Store Response (Success)"))


def check_find(world, report):
    report.group("C-FIND")
    for name in CLINICS:
        find = scu(world, name, "findscu", [*STUDY_ROOT, "-k", "PatientName"])
        report.that(f"the study, from the {name}", f"[{IDENTITY['patient']}]" in find.stdout, IDENTITY["patient"], find.stdout)


def check_move(world, report, folder, images):
    report.group("C-MOVE: the archive calls back")
    move, seconds = timed(lambda: scu(world, "clinic", "movescu", [*STUDY_ROOT, "-aem", "CLINIC"]))
    report.that("ends with success", "Received Final Move Response (Success)" in move.stdout, "Success", move.stdout)
    check_contents(report, images, folder / "clinic")
    received = sum(file.stat().st_size for file in folder.glob("clinic/*"))
    report.fact("C-MOVE", f"{received / 1e6:.1f} MB in {seconds:.1f} s")


def check_no_call_back(world, report, folder):
    """The practice may ask the archive, and the archive may not call the practice."""
    report.group("C-MOVE without a grant for the call-back")
    pacs, name = world.host("pacs.hospital"), fqdn("pc.practice")
    asked = probe.dig(pacs, world.ixgate.resolver(), name)
    report.that("the archive gets no address, and why", asked.status == "NXDOMAIN" and bool(asked.extended_error),
                "NXDOMAIN with an extended error", asked)
    check_failed_move(world, report, "PRACTICE", "by name", NAME_SECS)

    before = world.ixgate.drops("not_granted")
    check_failed_move(world, report, "BYADDRESS", "by address", CONNECT_SECS + NAME_SECS)
    counted = world.ixgate.drops("not_granted") - before
    report.that("the IX counts why", counted > 0, "not_granted > 0", counted)
    words = world.ixgate.failures("hospital")
    report.that("... of the hospital, in words", "not_granted" in words, "not_granted", words)
    report.equal("nothing came", [], list(folder.glob("practice/*")))


def check_failed_move(world, report, title, how, limit):
    move, seconds = timed(lambda: scu(world, "practice", "movescu", [*STUDY_ROOT, "-aem", title]))
    final = re.search(r"Received Final Move Response \((.*)\)", move.stdout)
    report.that(f"known {how}: ends with a failure", final and "Success" not in final.group(1), "Failed", move.stdout)
    report.that(f"known {how}: soon", seconds < limit, f"within {limit} s", f"{seconds:.1f} s")


def check_get(world, report, folder, images):
    report.group("C-GET: nobody is called back")
    got = folder / "got"
    got.mkdir()
    get = scu(world, "practice", "getscu", [*STUDY_ROOT, "-od", got])
    report.that("ends with success", "Received C-GET Response (Success)" in get.stdout, "Success", get.stdout)
    check_contents(report, images, got)


def check_agreed_later(world, report, folder, images):
    report.group("C-MOVE after the grant was added")
    world.scenario.grants.append(Grant(["hospital"], ["realm:practice"], [f"tcp/{RECEIVER_PORT}"]))
    world.ixgate.reload(world.sites)
    move = scu(world, "practice", "movescu", [*STUDY_ROOT, "-aem", "PRACTICE"])
    report.that("ends with success", "Received Final Move Response (Success)" in move.stdout, "Success", move.stdout)
    check_contents(report, images, folder / "practice")


def check_contents(report, images, folder):
    report.equal("what came is what was sent, by UID and SHA-256", contents(images), contents(folder.iterdir()))


def timed(action):
    began = time.monotonic()
    return action(), time.monotonic() - began
