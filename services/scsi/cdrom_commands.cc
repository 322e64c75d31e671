// Commands of MMC-6: a CD-ROM drive.

#include "services/scsi/commands.h"

namespace bulkhead::scsi {

absl::Span<const CommandDescription> CdromCommands() { return {}; }

}  // namespace bulkhead::scsi
