// What libnbd asks of gnutls and libxml2, answered with "no": a service speaks
// plain NBD over a socket that it was handed, so it has no use for TLS or for
// URIs. Debian has no static gnutls that links (its p11-kit is shared only),
// and neither library belongs into a process that parses a stranger's bytes.
//
// libnbd calls none of these unless nbd_set_tls or nbd_connect_uri was called.

#include <stddef.h>
#include <sys/types.h>

namespace {

constexpr int kNoTls = -1;  // below zero is an error in gnutls

}  // namespace

extern "C" {

int gnutls_init(void**, unsigned) { return kNoTls; }
void gnutls_deinit(void*) {}
int gnutls_bye(void*, int) { return kNoTls; }
int gnutls_handshake(void*) { return kNoTls; }
int gnutls_handshake_get_last_in(void*) { return 0; }
int gnutls_handshake_get_last_out(void*) { return 0; }
void gnutls_handshake_set_timeout(void*, unsigned) {}
int gnutls_error_is_fatal(int) { return 1; }
const char* gnutls_strerror(int) { return "TLS is not part of this program"; }
int gnutls_priority_set_direct(void*, const char*, const char**) {
  return kNoTls;
}
int gnutls_server_name_set(void*, int, const void*, size_t) { return kNoTls; }
void gnutls_session_set_verify_cert(void*, const char*, unsigned) {}
void gnutls_transport_set_int2(void*, int, int) {}
unsigned gnutls_transport_is_ktls_enabled(void*) { return 0; }
ssize_t gnutls_record_recv(void*, void*, size_t) { return kNoTls; }
ssize_t gnutls_record_send(void*, const void*, size_t) { return kNoTls; }
size_t gnutls_record_check_pending(void*) { return 0; }
int gnutls_record_get_direction(void*) { return 0; }
int gnutls_credentials_set(void*, int, void*) { return kNoTls; }
int gnutls_psk_allocate_client_credentials(void**) { return kNoTls; }
void gnutls_psk_free_client_credentials(void*) {}
int gnutls_psk_set_client_credentials(void*, const char*, const void*, int) {
  return kNoTls;
}
int gnutls_certificate_allocate_credentials(void**) { return kNoTls; }
void gnutls_certificate_free_credentials(void*) {}
int gnutls_certificate_set_x509_crl_file(void*, const char*, int) {
  return kNoTls;
}
int gnutls_certificate_set_x509_key_file(void*, const char*, const char*, int) {
  return kNoTls;
}
int gnutls_certificate_set_x509_system_trust(void*) { return kNoTls; }
int gnutls_certificate_set_x509_trust_file(void*, const char*, int) {
  return kNoTls;
}
int gnutls_cipher_get(void*) { return 0; }
size_t gnutls_cipher_get_key_size(int) { return 0; }
const char* gnutls_cipher_get_name(int) { return "none"; }
int gnutls_kx_get(void*) { return 0; }
const char* gnutls_kx_get_name(int) { return "none"; }
int gnutls_mac_get(void*) { return 0; }
size_t gnutls_mac_get_key_size(int) { return 0; }
const char* gnutls_mac_get_name(int) { return "none"; }

void xmlFreeURI(void*) {}
void* xmlParseURI(const char*) { return nullptr; }
unsigned char* xmlSaveUri(void*) { return nullptr; }
char* xmlURIUnescapeString(const char*, int, char*) { return nullptr; }

}  // extern "C"
