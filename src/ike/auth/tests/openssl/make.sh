#!/bin/sh
# Makes the certificates and keys in this folder, once: another library's idea of the formats that we read.
set -eu
cd "$(dirname "$0")"
subject() { openssl req -new -nodes -subj "$1" -keyout "$2-key.pem" -out "$2.csr" -newkey $3; }
issue() {
    printf 'subjectAltName=DNS:gw.example\nkeyUsage=digitalSignature\nextendedKeyUsage=1.3.6.1.5.5.7.3.17,serverAuth\n' |
        openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 36500 -extfile /dev/stdin -out "$1.pem"
}
openssl req -x509 -nodes -days 36500 -subj "/C=CH/O=Clinic, Inc./CN=Root" -newkey ec -pkeyopt ec_paramgen_curve:P-384 -keyout ca-key.pem -out ca.pem
subject "/C=CH/O=Clinic, Inc./CN=gw" rsa rsa:2048 && issue rsa
subject "/C=CH/O=Clinic, Inc./CN=gw" p256 "ec -pkeyopt ec_paramgen_curve:P-256" && issue p256
subject "/C=CH/O=Clinic, Inc./CN=gw" ed25519 ed25519 && issue ed25519
openssl pkey -in rsa-key.pem -traditional -out rsa-pkcs1-key.pem
openssl pkey -in p256-key.pem -traditional -out p256-sec1-key.pem
openssl req -x509 -newkey rsa:1024 -nodes -days 36500 -subj /CN=small -keyout small-rsa-key.pem -out small-rsa.pem
rm -f ca-key.pem ca.srl ./*.csr
