#include "vm/nbd_uri.h"

#include <gtest/gtest.h>

#include <string>

namespace bulkhead::vm {
namespace {

std::string Of(const std::string& text) {
  const absl::StatusOr<NbdUri> uri = ParseNbdUri(text);
  if (!uri.ok()) return "error";
  return uri->socket_path + "|" + uri->host + "|" + uri->port + "|" +
         uri->export_name;
}

TEST(NbdUriTest, TcpWithAndWithoutPortAndExport) {
  EXPECT_EQ(Of("nbd://host"), "|host|10809|");
  EXPECT_EQ(Of("nbd://host:9000/disk"), "|host|9000|disk");
  EXPECT_EQ(Of("nbd://[::1]:9000/a/b"), "|::1|9000|a/b");
  EXPECT_EQ(Of("nbd://[fe80::2]"), "|fe80::2|10809|");
}

TEST(NbdUriTest, UnixSocketWithAndWithoutExport) {
  EXPECT_EQ(Of("nbd+unix:///?socket=/run/a.sock"), "/run/a.sock|||");
  EXPECT_EQ(Of("nbd+unix:///web1?socket=a.sock"), "a.sock|||web1");
}

TEST(NbdUriTest, PercentIsAnEscape) {
  EXPECT_EQ(Of("nbd+unix:///my%20disk?socket=/run/a%2fb"),
            "/run/a/b|||my disk");
  EXPECT_EQ(Of("nbd+unix:///x%0?socket=/s"), "error");
  EXPECT_EQ(Of("nbd+unix:///x%00?socket=/s"), "error");
}

TEST(NbdUriTest, WhatIsNoUriOfAServerIsRefused) {
  for (const char* text :
       {"", "disk.qcow2", "http://host/x", "nbd://", "nbd://:10809/x",
        "nbd://host:port", "nbd://host/x?tls", "nbd+unix://host/x?socket=/s",
        "nbd+unix:///x", "nbd+unix:///x?socket=", "nbd+unix:///?socket=/dir/",
        "nbd://[::1"}) {
    EXPECT_EQ(Of(text), "error") << text;
  }
}

// And the error says what to do instead.
TEST(NbdUriTest, TlsIsRefusedByName) {
  const absl::StatusOr<NbdUri> uri = ParseNbdUri("nbds://host/x");
  ASSERT_FALSE(uri.ok());
  EXPECT_NE(uri.status().message().find("TLS"), absl::string_view::npos);
}

}  // namespace
}  // namespace bulkhead::vm
