#include "services/nvme/logs.h"

#include <algorithm>

namespace bulkhead::nvme {
namespace {

constexpr Nanoseconds kHour = uint64_t{3600} * 1'000'000'000;

}  // namespace

void Logs::RecordError(uint16_t sq_id, const Command& command, Outcome outcome,
                       uint64_t lba) {
  ErrorLogEntry& entry = state_.errors[state_.error_count % kErrorLogEntries];
  ++state_.error_count;
  entry = {};
  entry.error_count = state_.error_count;
  entry.sq_id = sq_id;
  entry.cid = command.cid;
  entry.status =
      static_cast<uint16_t>(static_cast<uint16_t>(outcome.status) << 1);
  entry.parameter_location = outcome.location;
  entry.lba = lba;
  entry.nsid = command.nsid;
}

void Logs::Take(Logs& other) {
  LogState& theirs = other.state_;
  const uint64_t kept =
      std::min<uint64_t>(theirs.error_count, kErrorLogEntries);
  state_.error_count += theirs.error_count - kept;
  for (uint64_t i = kept; i > 0; --i) {
    ErrorLogEntry& entry = state_.errors[state_.error_count % kErrorLogEntries];
    entry = other.Error(static_cast<unsigned>(i - 1));
    entry.error_count = ++state_.error_count;
  }
  state_.sectors_read += theirs.sectors_read;
  state_.sectors_written += theirs.sectors_written;
  state_.host_reads += theirs.host_reads;
  state_.host_writes += theirs.host_writes;
  state_.media_errors += theirs.media_errors;
  theirs.error_count = theirs.sectors_read = theirs.sectors_written = 0;
  theirs.host_reads = theirs.host_writes = theirs.media_errors = 0;
}

ErrorLogEntry Logs::Error(unsigned index) const {
  if (index >= kErrorLogEntries || index >= state_.error_count) return {};
  return state_.errors[(state_.error_count - 1 - index) % kErrorLogEntries];
}

uint8_t Logs::CriticalWarning() const {
  const bool hot = kTemperatureKelvin >= features_.temperature_over;
  const bool cold = kTemperatureKelvin <= features_.temperature_under;
  return hot || cold ? kCriticalTemperature : 0;
}

SmartLog Logs::Smart(Nanoseconds powered) const {
  SmartLog log = {};
  log.critical_warning = CriticalWarning();
  log.temperature = kTemperatureKelvin;
  log.available_spare = 100;
  log.spare_threshold = 10;
  log.data_units_read[0] = (state_.sectors_read + 999) / 1000;
  log.data_units_written[0] = (state_.sectors_written + 999) / 1000;
  log.host_reads[0] = state_.host_reads;
  log.host_writes[0] = state_.host_writes;
  log.power_cycles[0] = state_.power_cycles;
  log.power_on_hours[0] = powered / kHour;
  log.unsafe_shutdowns[0] = state_.unsafe_shutdowns;
  log.media_errors[0] = state_.media_errors;
  log.error_log_entries[0] = state_.error_count;
  return log;
}

// §5.2: an event of a type is reported once; more are held back until the host
// has read the log page.
void Logs::Raise(unsigned type, uint8_t information, LogPage page) {
  AsyncEvent& event = state_.events[type];
  if (event.masked != 0 || event.pending != 0) return;
  event.pending = 1;
  event.information = information;
  event.log_page = static_cast<uint8_t>(page);
}

void Logs::CheckTemperature() {
  if ((CriticalWarning() & features_.async_events & kCriticalTemperature) !=
      0) {
    Raise(kEventTypeSmart, kEventTemperature, LogPage::kSmart);
  }
}

// §5.14.1.4, §5.2: the list grows whether or not the host wants to be told.
void Logs::NamespaceChanged(uint32_t nsid) {
  state_.changed[nsid - 1] = 1;
  if ((features_.async_events & kNamespaceAttributeNotices) != 0) {
    Raise(kEventTypeNotice, kEventNamespaceAttribute,
          LogPage::kChangedNamespaces);
  }
}

void Logs::Unmask(LogPage page) {
  for (AsyncEvent& event : state_.events) {
    if (event.masked != 0 && event.log_page == static_cast<uint8_t>(page)) {
      event.masked = 0;
    }
  }
}

bool Logs::AddRequest(uint16_t cid) {
  if (state_.request_count >= kMaxAsyncEvents) return false;
  state_.requests[state_.request_count++] = cid;
  return true;
}

bool Logs::CancelRequest(uint16_t cid) {
  const auto end = state_.requests.begin() + state_.request_count;
  const auto at = std::find(state_.requests.begin(), end, cid);
  if (at == end) return false;
  std::copy(at + 1, end, at);
  --state_.request_count;
  return true;
}

bool Logs::HasEvent() const {
  if (state_.request_count == 0) return false;
  for (const AsyncEvent& event : state_.events) {
    if (event.pending != 0) return true;
  }
  return false;
}

bool Logs::TakeEvent(uint16_t* cid, uint32_t* result) {
  if (state_.request_count == 0) return false;
  for (unsigned type = 0; type < kEventTypes; ++type) {
    AsyncEvent& event = state_.events[type];
    if (event.pending == 0) continue;
    event.pending = 0;
    event.masked = 1;
    *cid = state_.requests[0];
    CancelRequest(*cid);
    *result = type | uint32_t{event.information} << 8 |
              uint32_t{event.log_page} << 16;
    return true;
  }
  return false;
}

void Logs::Reset() {
  state_.events = {};
  state_.request_count = 0;
}

}  // namespace bulkhead::nvme
