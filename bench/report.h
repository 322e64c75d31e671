// Comparison collects samples of figures from us and from peers, measured in
// turn in one run, and prints medians and their ratio.
//
//   median                            bulkhead     qemu   ours / peer
//   4 KiB randread depth 1, IOPS          3410     3120   1.09x (aim >= 0.90:
//   met)
//
// A ratio is the median of the rounds' ratios: rounds alternate, so that a
// machine whose speed drifts slows both sides of a round.
//
// THREADS  One.

#ifndef BULKHEAD_BENCH_REPORT_H_
#define BULKHEAD_BENCH_REPORT_H_

#include <map>
#include <string>
#include <vector>

namespace bulkhead::bench {

double Median(std::vector<double> values);
// `part` in 0..1.
double Quantile(std::vector<double> values, double part);

class Comparison {
 public:
  // The contestants, ours first.
  Comparison(std::string title, std::vector<std::string> contestants);

  // What is compared: its unit, whether more is better, and the aims of ours /
  // peer ("at least" when more is better, else "at most") for the peers from
  // the first; beside the others there is none.
  void Figure(const std::string& figure, const std::string& unit,
              bool more_is_better, std::vector<double> aims = {});

  // One sample of a round. Samples of one figure are paired by their order.
  void Add(const std::string& figure, const std::string& contestant,
           double value);

  // Prints the table. True if every aim is met.
  bool Print() const;
  // Everything measured, as JSON, for plots. A relative path begins where the
  // user called `bazel run`; none: nothing is written.
  bool WriteJson(const std::string& path) const;

 private:
  struct Row {
    std::string name;
    std::string unit;
    bool more_is_better;
    std::vector<double> aims;
    std::map<std::string, std::vector<double>> samples;
  };
  Row* Find(const std::string& figure);
  // Ours over the peer's; 0 without a pair.
  static double Ratio(const Row& row, const std::string& ours,
                      const std::string& peer);

  std::string title_;
  std::vector<std::string> contestants_;
  std::vector<Row> rows_;
};

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_REPORT_H_
