#include "core/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace gradtap {
namespace {

using namespace std::string_literals;

// Names that have broken somebody's tool.
std::vector<std::string> HostileNames() {
  return {
      ""s,
      " "s,
      "."s,
      ".."s,
      "a/b"s,
      "/etc/passwd"s,
      "..\\..\\x"s,
      "\0"s,
      "a\0b"s,
      "\n"s,
      "a\r\nb"s,
      "\t"s,
      "\x1b[2J"s,
      "\x1b]0;title\a"s,
      "\x1b]8;;http://x\x1b\\"s,
      "\x7f"s,
      "\b\b\b"s,
      "\xc2\x9b"
      "2J"s,        // C1 CSI.
      "\xc2\x85"s,  // Next line.
      "\x9b"
      "2J"s,  // A bare C1 byte.
      "\xff"s,
      "\xfe\xff"s,
      "\xc0\x80"s,  // Overlong NUL.
      "\xc1\xbf"s,
      "\xe0\x80\xaf"s,  // Overlong slash.
      "\xf0\x80\x80\xaf"s,
      "\xed\xa0\x80"s,  // A surrogate.
      "\xed\xbf\xbf"s,
      "\xf4\x90\x80\x80"s,  // U+110000.
      "\xf5\x80\x80\x80"s,
      "\xf8\x88\x80\x80\x80"s,  // Five bytes.
      "\xe2\x82"s,              // Cut off.
      "\xf0\x9f\x98"s,
      "\x80"s,
      "a\x80z"s,
      "\xe2\x80\xae"
      "gpj.exe"s,           // Right-to-left override.
      "\xe2\x81\xa6x"s,     // Isolate.
      "\xe2\x80\x8f"s,      // Right-to-left mark.
      "\xe2\x80\xa8"s,      // Line separator.
      "\xef\xbb\xbfname"s,  // Byte order mark.
      "\xf3\xa0\x81\x81"s,  // A tag character.
      "<script>alert(1)</script>"s,
      "=cmd|' /C calc'!A0"s,
      "+1"s,
      "@SUM(1)"s,
      "'; DROP TABLE runs; --"s,
      "%s%n%x"s,
      "${jndi:ldap://x}"s,
      "\\x41"s,
      "caf\xc3\xa9.weight"s,
      "\xe6\xb7\xb1\xe5\xb1\xa4"s,
      "\xf0\x9f\x94\xa5.bias"s,
      std::string(511, 'a'),
      std::string(512, 'a'),
      std::string(513, 'a'),
      std::string(100'000, 'x'),
      std::string(100'000, '\xff'),
      std::string(511, 'a') + "\xc3\xa9",
      std::string(510, 'a') + "\xff",
  };
}

TEST(IsValidUtf8Test, TakesWhatRfc3629Takes) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("\0"s));
  EXPECT_TRUE(IsValidUtf8("\x7f"));
  EXPECT_TRUE(IsValidUtf8("\xc2\x80\xdf\xbf"));
  EXPECT_TRUE(IsValidUtf8("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"));
  EXPECT_TRUE(IsValidUtf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

TEST(IsValidUtf8Test, RefusesTheRest) {
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xc2\xc2",
        "\xe0\x9f\xbf", "\xe0\xa0", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xef\xbf\x41", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xff", "ok\xfe"}) {
    EXPECT_FALSE(IsValidUtf8(bad));
  }
}

TEST(SafeNameTest, HostileNamesBecomeValidShortAndStayApart) {
  std::set<std::string> seen;
  for (const std::string& name : HostileNames()) {
    const std::string safe = SafeName(name);
    EXPECT_TRUE(IsValidUtf8(safe)) << safe;
    EXPECT_GE(safe.size(), 1u);
    EXPECT_LE(safe.size(), kMaxNameBytes);
    EXPECT_EQ(SafeName(safe), safe);
    EXPECT_TRUE(seen.insert(safe).second) << safe;
  }
}

TEST(SafeNameTest, ValidNamesWithinTheCapAreUnchanged) {
  for (const std::string& name : HostileNames()) {
    if (!name.empty() && name.size() <= kMaxNameBytes && IsValidUtf8(name)) {
      EXPECT_EQ(SafeName(name), name);
    }
  }
}

TEST(SafeNameTest, InvalidBytesAreEscapedOneByOne) {
  EXPECT_EQ(SafeName("a\xff\xc3\xa9\xe2\x82"), "a\\xff\xc3\xa9\\xe2\\x82");
  EXPECT_EQ(SafeName("back\\slash"), "back\\slash");
  EXPECT_EQ(SafeName(""), "(empty)");
}

TEST(SafeNameTest, LongNamesAreCutBetweenCharactersAndEndInAHash) {
  const std::string a = SafeName(std::string(494, 'a') + "\xc3\xa9" +
                                 std::string(200, 'b') + "1");
  const std::string b = SafeName(std::string(494, 'a') + "\xc3\xa9" +
                                 std::string(200, 'b') + "2");
  EXPECT_NE(a, b);
  EXPECT_EQ(a.size(), 494u + 17u);  // The two-byte character did not fit.
  EXPECT_EQ(a.substr(0, 495), std::string(494, 'a') + "~");
  // An escape is not cut in half either.
  const std::string c =
      SafeName(std::string(493, 'a') + std::string(200, '\xff'));
  EXPECT_EQ(c.substr(0, 494), std::string(493, 'a') + "~");
}

TEST(SafeNameTest, TheHashOfALongNameNeverChanges) {
  // Stored names depend on it.
  EXPECT_EQ(SafeName(std::string(600, 'a')).substr(495), "~45e16b4b5a15e3cc");
}

TEST(EscapeForTerminalTest, NothingThatMovesTheCursorSurvives) {
  for (const std::string& name : HostileNames()) {
    const std::string shown = EscapeForTerminal(name);
    EXPECT_TRUE(IsValidUtf8(shown));
    for (const char c : shown) {
      EXPECT_GE(static_cast<unsigned char>(c), 0x20);
      EXPECT_NE(c, '\x7f');
    }
    for (const char* bad :
         {"\xc2\x85", "\xc2\x9b", "\xe2\x80\xae", "\xe2\x81\xa6",
          "\xe2\x80\x8f", "\xe2\x80\xa8", "\xef\xbb\xbf", "\xf3\xa0\x81\x81"}) {
      EXPECT_EQ(shown.find(bad), std::string::npos) << shown;
    }
  }
}

TEST(EscapeForTerminalTest, WritesTheEscapesThatTheHeaderNames) {
  EXPECT_EQ(EscapeForTerminal("a\nb\tc\rd"), "a\\nb\\tc\\x0dd");
  EXPECT_EQ(EscapeForTerminal("\x1b[0m\x7f"), "\\x1b[0m\\x7f");
  EXPECT_EQ(EscapeForTerminal("\xc2\x9b"), "\\u{009b}");
  EXPECT_EQ(EscapeForTerminal("\xe2\x80\xae"), "\\u{202e}");
  EXPECT_EQ(EscapeForTerminal("\xf3\xa0\x81\x81"), "\\u{e0041}");
  EXPECT_EQ(EscapeForTerminal("\xff"), "\\xff");
  EXPECT_EQ(EscapeForTerminal("\0"s), "\\x00");
}

TEST(EscapeForTerminalTest, OrdinaryTextOfAnyScriptIsUnchanged) {
  for (const std::string& text :
       {"layers.0.weight"s, "caf\xc3\xa9"s, "\xe6\xb7\xb1\xe5\xb1\xa4"s,
        "\xf0\x9f\x94\xa5"s, "a\\b"s, "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d"s}) {
    EXPECT_EQ(EscapeForTerminal(text), text);
  }
}

RC_GTEST_PROP(NamesPropertyTest, AnyBytesBecomeSafe, (std::string bytes)) {
  RC_ASSERT(IsValidUtf8(SafeName(bytes)));
  RC_ASSERT(IsValidUtf8(EscapeForTerminal(bytes)));
  RC_ASSERT(!IsValidUtf8(bytes) || bytes.empty() ||
            bytes.size() > kMaxNameBytes || SafeName(bytes) == bytes);
}

TEST(IsValidRunNameTest, TakesKeysAndNoPaths) {
  for (const std::string& good : {"a"s, "fashion-mnist"s, "A.b_c-9"s, "..."s,
                                  "-x"s, std::string(128, 'a')}) {
    EXPECT_TRUE(IsValidRunName(good)) << good;
  }
  for (const std::string& bad :
       {""s, "."s, ".."s, "a/b"s, "a b"s, "a\n"s, "\0"s, "a\0"s, "caf\xc3\xa9"s,
        "a:b"s, std::string(129, 'a')}) {
    EXPECT_FALSE(IsValidRunName(bad)) << bad;
  }
}

TEST(NearestTest, FindsTheTypoThatWasMeant) {
  const std::vector<std::string> names = {"layers.0.weight", "layers.0.bias",
                                          "layers.1.weight", "head.weight"};
  EXPECT_EQ(Nearest("layers.0.wieght", names), "layers.0.weight");
  EXPECT_EQ(Nearest("layer.0.bias", names), "layers.0.bias");
  EXPECT_EQ(Nearest("head.weights", names), "head.weight");
  EXPECT_EQ(Nearest("head.weight", names), "head.weight");
}

TEST(NearestTest, SaysNothingWhenNothingIsNear) {
  EXPECT_EQ(Nearest("encoder", {"grad", "weight"}), "");
  EXPECT_EQ(Nearest("x", {}), "");
  EXPECT_EQ(Nearest("x", {""}), "");
  EXPECT_EQ(Nearest("", {"abc"}), "");
  EXPECT_EQ(Nearest("ab", {"cb"}), "");  // Half of it is another.
}

TEST(NearestTest, OfEquallyNearOnesTakesTheFirst) {
  EXPECT_EQ(Nearest("grad.l3", {"grad.l2", "grad.l1"}), "grad.l2");
}

TEST(NearestTest, LooksAtBoundedPrefixesAndCandidates) {
  const std::string base(64, 'a');
  EXPECT_EQ(Nearest(base + "x", {base + std::string(100'000, 'y')}),
            base + std::string(100'000, 'y'));
  std::vector<std::string> many(100'000, "zzzzzzzzzzzz");
  many.push_back("wanted");
  EXPECT_EQ(Nearest("wanted", many), "");
  many[99'999] = "wanted";
  EXPECT_EQ(Nearest("wanted", many), "wanted");
}

// The full table, without bounds.
std::size_t SlowDistance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> d(
      a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1,
                          d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

RC_GTEST_PROP(NearestTest, AgreesWithTheFullTable, ()) {
  const auto word =
      rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c'));
  const std::string name = *word;
  const auto candidates = *rc::gen::container<std::vector<std::string>>(word);
  std::string want;
  std::size_t want_distance = 1000;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > 64 || name.size() > 64) return;
    const std::size_t distance = SlowDistance(name, candidate);
    if (distance * 3 <= std::max(name.size(), candidate.size()) &&
        distance < want_distance) {
      want = candidate;
      want_distance = distance;
    }
  }
  RC_ASSERT(Nearest(name, candidates) == want);
}

}  // namespace
}  // namespace gradtap
