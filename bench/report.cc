#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

namespace bulkhead::bench {
namespace {

std::string Format(double value) {
  char text[32];
  snprintf(text, sizeof(text), value >= 1000 ? "%.0f" : "%.3g", value);
  return text;
}

}  // namespace

double Quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = part * static_cast<double>(values.size() - 1);
  const size_t below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] +
         (values[above] - values[below]) * (place - std::floor(place));
}

double Median(std::vector<double> values) {
  return Quantile(std::move(values), 0.5);
}

Comparison::Comparison(std::string title, std::vector<std::string> contestants)
    : title_(std::move(title)), contestants_(std::move(contestants)) {}

Comparison::Row* Comparison::Find(const std::string& figure) {
  for (Row& row : rows_) {
    if (row.name == figure) return &row;
  }
  return nullptr;
}

void Comparison::Figure(const std::string& figure, const std::string& unit,
                        bool more_is_better, std::vector<double> aims) {
  if (Find(figure) == nullptr) {
    rows_.push_back({figure, unit, more_is_better, std::move(aims), {}});
  }
}

void Comparison::Add(const std::string& figure, const std::string& contestant,
                     double value) {
  if (Row* row = Find(figure)) row->samples[contestant].push_back(value);
}

double Comparison::Ratio(const Row& row, const std::string& ours,
                         const std::string& peer) {
  const auto a = row.samples.find(ours);
  const auto b = row.samples.find(peer);
  if (a == row.samples.end() || b == row.samples.end()) return 0;
  std::vector<double> ratios;
  const size_t rounds = std::min(a->second.size(), b->second.size());
  for (size_t i = 0; i < rounds; ++i) {
    if (b->second[i] > 0) ratios.push_back(a->second[i] / b->second[i]);
  }
  return Median(ratios);
}

bool Comparison::Print() const {
  printf("\n%s\n", title_.c_str());
  size_t width = 10;
  for (const Row& row : rows_) {
    width = std::max(width, row.name.size() + row.unit.size() + 2);
  }
  printf("  %-*s", static_cast<int>(width), "median");
  for (const std::string& name : contestants_) printf(" %16s", name.c_str());
  printf("   ours / peer\n");

  bool all_met = true;
  for (const Row& row : rows_) {
    printf("  %-*s", static_cast<int>(width),
           (row.name + ", " + row.unit).c_str());
    for (const std::string& name : contestants_) {
      const auto samples = row.samples.find(name);
      printf(" %16s", samples == row.samples.end()
                          ? "-"
                          : Format(Median(samples->second)).c_str());
    }
    for (size_t i = 1; i < contestants_.size(); ++i) {
      const double ratio = Ratio(row, contestants_[0], contestants_[i]);
      if (ratio > 0) printf("   %.2fx", ratio);
      if (i > row.aims.size() || ratio <= 0) continue;
      const double aim = row.aims[i - 1];
      const bool met = row.more_is_better ? ratio >= aim : ratio <= aim;
      all_met = all_met && met;
      printf(" (aim %s %.2f: %s)", row.more_is_better ? ">=" : "<=", aim,
             met ? "met" : "MISSED");
    }
    printf("\n");
  }
  fflush(stdout);
  return all_met;
}

bool Comparison::WriteJson(const std::string& path) const {
  if (path.empty()) return true;
  nlohmann::json figures = nlohmann::json::array();
  for (const Row& row : rows_) {
    figures.push_back({{"figure", row.name},
                       {"unit", row.unit},
                       {"more_is_better", row.more_is_better},
                       {"aims", row.aims},
                       {"samples", row.samples}});
  }
  const char* user = getenv("BUILD_WORKING_DIRECTORY");
  std::ofstream out(path[0] == '/' || user == nullptr
                        ? path
                        : std::string(user) + "/" + path);
  out << nlohmann::json{{"title", title_}, {"figures", figures}}.dump(2)
      << "\n";
  return out.good();
}

}  // namespace bulkhead::bench
