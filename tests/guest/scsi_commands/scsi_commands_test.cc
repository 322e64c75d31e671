// A Linux guest puts every question that sg3-utils know to disks and a CD-ROM
// drive behind the jailed lsi53c895a, and mounts the disc. What the answers
// have to be stands in expected.txt.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/support/iso_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kScript(480);

struct Expectation {
  std::string title;
  int status = -1;                             // -1: any
  std::vector<std::vector<std::string>> says;  // of each, one
  std::vector<std::string> never;
};

struct Answer {
  int status = -1;
  std::string text;
};

std::vector<Expectation> ReadExpectations() {
  std::ifstream in("tests/guest/scsi_commands/expected.txt");
  std::vector<Expectation> expectations;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string rest = line.substr(space + 1);
    if (word == "question") {
      expectations.push_back({.title = rest});
    } else if (word == "status") {
      expectations.back().status = std::stoi(rest);
    } else if (word == "says") {
      expectations.back().says.push_back(absl::StrSplit(rest, " || "));
    } else if (word == "never") {
      expectations.back().never.push_back(rest);
    } else {
      ADD_FAILURE() << "expected.txt: " << line;
    }
  }
  return expectations;
}

// What stands between the marks of the script, by title.
std::map<std::string, Answer> ReadAnswers(std::string output) {
  output.erase(std::remove(output.begin(), output.end(), '\r'), output.end());
  const std::string begin = "BULKHEAD-ASK begin=\"";
  const std::string end = "BULKHEAD-ASK end=\"";
  std::map<std::string, Answer> answers;
  size_t at = 0;
  while ((at = output.find(begin, at)) != std::string::npos) {
    at += begin.size();
    const std::string title = output.substr(at, output.find('"', at) - at);
    at += title.size() + 2;
    const std::string mark = end + title + "\" status=";
    const size_t stop = output.find(mark, at);
    if (stop == std::string::npos) break;
    answers[title] = {std::stoi(output.substr(stop + mark.size(), 8)),
                      output.substr(at, stop - at)};
    at = stop;
  }
  return answers;
}

std::string Numbers(int last) {
  std::string text;
  for (int i = 1; i <= last; ++i) text += std::to_string(i) + "\n";
  return text;
}

TEST(ScsiCommandsTest, DiskAndCdromAnswerALinuxGuestAsTheStandardsSay) {
  if (RuntimePath("guest_kernel").empty()) {
    GTEST_SKIP() << "run ./bazelw once";
  }
  ScratchDirectory scratch;
  const std::string disk = scratch.path() + "/disk.qcow2";
  ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + disk + " 64M").c_str()),
            0);
  const std::string large = scratch.path() + "/large.img";
  const std::string fixed = scratch.path() + "/fixed.img";
  std::ofstream(large).close();
  std::ofstream(fixed).close();
  std::filesystem::resize_file(large, 16 << 20);
  std::filesystem::resize_file(fixed, 16 << 20);
  IsoImage iso;
  iso.AddFile("HELLO.TXT", "hello from the disc\n");
  iso.AddFile("NUMBERS.TXT", Numbers(200000));
  ASSERT_TRUE(iso.Write(scratch.path() + "/disc.iso"));

  Process vm({"launcher/vm", "--accel=tcg", "--memory=256MiB",
              "--kernel=" + RuntimePath("guest_kernel"),
              "--initrd=" +
                  std::filesystem::absolute("tools/guest/initrd.cpio").string(),
              "--append=console=ttyS0 quiet panic=-1 sym53c8xx.settle=0 "
              "bulkhead.script=scsi_commands",
              "--device=lsi53c895a,id=lsi0", "--set=access_deadline_ms=5000",
              "--disk=lsi0:0,format=qcow2,file=" + disk,
              "--cdrom=lsi0:1,file=" + scratch.path() + "/disc.iso",
              "--disk=lsi0:0.3,format=raw,block_size=4096,file=" + large,
              "--disk=lsi0:2,format=raw,readonly=on,file=" + fixed});
  EXPECT_TRUE(
      vm.WaitFor("BULKHEAD-SCRIPT name=scsi_commands result=ok", kScript))
      << vm.output();
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();

  std::map<std::string, Answer> answers = ReadAnswers(vm.output());
  const std::vector<Expectation> expectations = ReadExpectations();
  EXPECT_GT(expectations.size(), 50u);
  for (const Expectation& expected : expectations) {
    const auto found = answers.find(expected.title);
    if (found == answers.end()) {
      ADD_FAILURE() << expected.title << ": not asked or not answered";
      continue;
    }
    const Answer& answer = found->second;
    if (expected.status >= 0) {
      EXPECT_EQ(answer.status, expected.status) << expected.title << ":\n"
                                                << answer.text;
    }
    for (const std::vector<std::string>& texts : expected.says) {
      EXPECT_TRUE(std::any_of(texts.begin(), texts.end(),
                              [&](const std::string& text) {
                                return answer.text.find(text) !=
                                       std::string::npos;
                              }))
          << expected.title << " does not say \"" << texts[0] << "\":\n"
          << answer.text;
    }
    for (const std::string& text : expected.never) {
      EXPECT_EQ(answer.text.find(text), std::string::npos)
          << expected.title << " says \"" << text << "\":\n"
          << answer.text;
    }
    answers.erase(found);
  }
  for (const auto& [title, answer] : answers) {
    ADD_FAILURE() << title << ": expected.txt knows nothing of it";
  }
  EXPECT_EQ(system(("qemu-img check -q " + disk).c_str()), 0);
}

}  // namespace
}  // namespace bulkhead::testing
