// The tool as people run it, jail and all.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace bulkhead::image_tool {
namespace {

class ImageToolTest : public ::testing::Test {
 protected:
  ImageToolTest() {
    directory_ = ::testing::TempDir() + "/image_tool_XXXXXX";
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
  }
  ~ImageToolTest() override { Shell("rm -rf " + directory_); }

  std::string At(const std::string& name) const {
    return directory_ + "/" + name;
  }
  // Both streams; `status` is the exit status.
  std::string Shell(const std::string& command) {
    FILE* pipe = popen(("(" + command + ") 2>&1").c_str(), "r");
    std::string output;
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
      output.append(buffer, n);
    }
    status_ = WEXITSTATUS(pclose(pipe));
    return output;
  }
  std::string Tool(const std::string& arguments) {
    return Shell("unset BUILD_WORKING_DIRECTORY; tools/image/image " +
                 arguments);
  }
  std::string MakeImage(const std::string& name,
                        const std::string& size = "4M") {
    Shell("qemu-img create -q -f qcow2 " + At(name) + " " + size);
    EXPECT_EQ(status_, 0);
    return At(name);
  }

  std::string directory_;
  int status_ = -1;
};

TEST_F(ImageToolTest, WhatIsWrittenIsReadMappedAndFoundByQemu) {
  const std::string image = MakeImage("disk.qcow2");
  Shell("head -c 100000 /dev/urandom > " + At("data"));
  EXPECT_EQ(Tool("write " + image + " 1048576 < " + At("data")), "");
  EXPECT_EQ(status_, 0);
  Tool("read " + image + " 1048576 100352 > " + At("read"));
  EXPECT_EQ(Shell("cmp -n 100000 " + At("data") + " " + At("read")), "");
  const std::string map = Tool("map " + image + " --json");
  EXPECT_EQ(
      map.find("{\"offset\": 0, \"length\": 1048576, \"kind\": \"zero\"}\n"),
      0u)
      << map;
  EXPECT_NE(map.find("{\"offset\": 1048576, \"length\": 131072, \"kind\": "
                     "\"data\", \"depth\": 0, \"file_offset\": "),
            std::string::npos)
      << map;
  EXPECT_EQ(Shell("qemu-img check -q " + image), "");
  EXPECT_EQ(status_, 0);
}

TEST_F(ImageToolTest, ZeroAndDiscardLeaveASoundImageThatReadsZeroes) {
  const std::string image = MakeImage("disk.qcow2");
  Shell("head -c 1048576 /dev/urandom > " + At("data"));
  Tool("write " + image + " < " + At("data"));
  EXPECT_EQ(Tool("zero " + image + " 0 512000"), "");
  EXPECT_EQ(Tool("discard " + image + " 589824 458752"), "");
  EXPECT_EQ(Shell("tools/image/image read " + image +
                  " 0 512000 | tr -d '\\0' | wc -c"),
            "0\n");
  EXPECT_EQ(Tool("check " + image),
            "corruptions: 0\nleaked_clusters: 0\ndata_clusters: 2\n"
            "compressed_clusters: 0\nfirst_problem: \n");
  EXPECT_EQ(status_, 0);
}

TEST_F(ImageToolTest, InfoTellsTheHeaderAndEscapesWhatTheImageSays) {
  const std::string image = MakeImage("disk.qcow2");
  // A backing file name that would clear a terminal.
  Shell("qemu-img rebase -u -f qcow2 -F raw -b \"$(printf 'x\\033[2Jy')\" " +
        image);
  ASSERT_EQ(status_, 0);
  const std::string info = Tool("info --json " + image);
  EXPECT_NE(info.find("\"disk_bytes\": 4194304"), std::string::npos) << info;
  EXPECT_NE(info.find("\"supported\": true, \"writable\": true"),
            std::string::npos)
      << info;
  EXPECT_NE(info.find("\"backing_file\": \"x\\u001b[2Jy\""), std::string::npos)
      << info;
}

// What cannot be a VM's disk can be looked at.
TEST_F(ImageToolTest, InfoNamesTheFeaturesOfImagesThatAreNotSupported) {
  Shell("qemu-img create -q -f qcow2 -o data_file=" + At("data.raw") +
        ",extended_l2=on " + At("external.qcow2") + " 4M");
  ASSERT_EQ(status_, 0);
  const std::string info = Tool("info --json " + At("external.qcow2"));
  EXPECT_EQ(status_, 0);
  EXPECT_NE(info.find("\"features\": [\"external data file\", \"extended L2 "
                      "entries\"]"),
            std::string::npos)
      << info;
  EXPECT_NE(info.find("\"supported\": false, \"writable\": false, "
                      "\"unsupported\": \"unsupported qcow2 feature: external "
                      "data file\""),
            std::string::npos)
      << info;
  EXPECT_EQ(Tool("read --json " + At("external.qcow2")),
            "{\"error\": \"" + At("external.qcow2") +
                ": unsupported qcow2 feature: external data file\"}\n");
  EXPECT_EQ(status_, 2);
}

TEST_F(ImageToolTest, OldImagesAreReadWithTheirKey) {
  Shell("printf secret > " + At("key"));
  const std::string secret = "--object secret,id=s,data=secret ";
  for (const std::string driver : {"qcow", "qcow2"}) {
    const std::string image = At("old." + driver);
    const std::string options = "--image-opts driver=" + driver +
                                ",encrypt.key-secret=s,file.filename=" + image;
    Shell("qemu-img create -q -f " + driver + " " + secret +
          "-o encrypt.format=aes,encrypt.key-secret=s " + image +
          " 1M && qemu-io " + secret + options + " -c 'write -P 7 64k 64k'");
    ASSERT_EQ(status_, 0);
    EXPECT_NE(Tool("info " + image).find("encryption: legacy AES"),
              std::string::npos);
    EXPECT_EQ(Shell("tools/image/image read " + image +
                    " 65536 65536 --key_file=" + At("key") +
                    " | tr -d '\\7' | wc -c"),
              "0\n");
    EXPECT_NE(Tool("map " + image + " --key_file=" + At("key"))
                  .find("kind: encrypted"),
              std::string::npos);
    EXPECT_NE(Tool("read " + image).find("gives no key file"),
              std::string::npos);
  }
}

TEST_F(ImageToolTest, ParentThatAnImageNamesIsNotOpenedUnlessItIsGiven) {
  const std::string base = MakeImage("base.qcow2");
  Shell("qemu-io -f qcow2 -c 'write -P 7 0 1M' " + base);
  const std::string image = At("disk.qcow2");
  Shell("qemu-img create -q -f qcow2 -F qcow2 -b " + base + " " + image);
  const std::string refusal = Tool("read " + image + " 0 512");
  EXPECT_NE(refusal.find("which the VM description does not name"),
            std::string::npos)
      << refusal;
  EXPECT_EQ(status_, 2);
  EXPECT_EQ(Shell("tools/image/image read " + image +
                  " 0 512 --backing=" + base + " | tr -d '\\7' | wc -c"),
            "0\n");
}

TEST_F(ImageToolTest, CompareFindsTheFirstDifferenceAcrossFormats) {
  const std::string image = MakeImage("disk.qcow2");
  Shell("qemu-io -f qcow2 -c 'write -P 7 1M 1M' " + image);
  Shell("qemu-img convert -f qcow2 -O raw " + image + " " + At("same.raw"));
  EXPECT_EQ(Tool("compare " + image + " " + At("same.raw")),
            "identical: yes\nsame_size: yes\n");
  EXPECT_EQ(status_, 0);
  Shell("printf X | dd of=" + At("same.raw") +
        " bs=1 seek=1234567 conv=notrunc status=none");
  EXPECT_EQ(Tool("compare " + image + " " + At("same.raw")),
            "identical: no\nsame_size: yes\nfirst_difference: 1234567\n");
  EXPECT_EQ(status_, 1);
}

TEST_F(ImageToolTest, BenchMeasuresReadsAndWrites) {
  const std::string image = MakeImage("disk.qcow2", "64M");
  const std::string result =
      Tool("bench " + image + " --write --count=2000 --depth=8 --json");
  EXPECT_EQ(result.find("{\"requests\": 2000, "), 0u) << result;
  EXPECT_EQ(Shell("qemu-img check -q " + image), "");
}

// QEMU's locks, both ways.
TEST_F(ImageToolTest, ImageInUseIsRefused) {
  const std::string image = MakeImage("disk.qcow2");
  const std::string refusal = Shell(
      "qemu-io -f qcow2 -c 'sleep 3000' " + image +
      " & sleep 0.7; tools/image/image write " + image + " < /dev/null; wait");
  EXPECT_NE(refusal.find(image + ": in use by another process"),
            std::string::npos)
      << refusal;
}

TEST_F(ImageToolTest, RangesMayBeSaidAsSizes) {
  const std::string image = MakeImage("disk.qcow2");
  EXPECT_EQ(Tool("zero " + image + " 64K 1MiB --json"),
            "{\"offset\": 65536, \"length\": 1048576}\n");
}

// Whichever side finds the mistake.
TEST_F(ImageToolTest, ErrorsAreJsonWhereJsonIsAskedFor) {
  EXPECT_EQ(
      Tool("info --json " + At("nowhere")),
      "{\"error\": \"" + At("nowhere") + ": No such file or directory\"}\n");
  EXPECT_EQ(status_, 2);
  const std::string image = MakeImage("disk.qcow2");
  EXPECT_NE(Tool("read --json " + image + " 5MiB 512").find("{\"error\": \""),
            std::string::npos);
}

TEST_F(ImageToolTest, WrongUseIsExplained) {
  EXPECT_NE(Tool("frobnicate x").find("unknown command frobnicate"),
            std::string::npos);
  EXPECT_EQ(status_, 2);
  EXPECT_NE(Tool("info " + At("nowhere")).find("No such file or directory"),
            std::string::npos);
  Shell("echo no image > " + At("text"));
  EXPECT_NE(Tool("info " + At("text")).find("not a qcow2 image"),
            std::string::npos);
  EXPECT_EQ(status_, 2);
}

}  // namespace
}  // namespace bulkhead::image_tool
