// A coverage-guided fuzzer (libFuzzer) of every decoder of bytes from the wire and the disk, and of the texts that people and
// configurations give: it does not crash, reads nothing beyond its input (built with the address and undefined-behaviour sanitizers),
// and what it accepts is a value: written again and read again it is the same.
//
// The first byte of an input chooses the decoder, the rest is what it gets. Checksums that only guard the rest are made right first, so
// that what lies behind them is reached. scripts/fuzz builds and runs it; tests/fuzz/corpus holds inputs that reach each part.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_entry.h"
#include "chunkserver/store/record.h"
#include "cli/core/format.h"
#include "cli/core/policy_text.h"
#include "common/checksum.h"
#include "common/net/address.h"
#include "common/wire/frame.h"
#include "common/wire/messages.h"

namespace cairn::fuzz {
namespace {

using Bytes = std::vector<std::byte>;

Bytes FromText(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}
std::string ToText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Answers with the value written again, or nothing when the input is refused.
using Decoder = std::optional<Bytes> (*)(Bytes input);

template <auto decode>
std::optional<Bytes> Message(Bytes input) {
  const auto message = decode(input);
  if (!message.ok()) return std::nullopt;
  return wire::Encode(*message);
}

std::optional<Bytes> FrameHeader(Bytes input) {
  input.resize(wire::kHeaderBytes);
  const uint32_t crc = Crc32c(std::span(input).first(28));
  std::memcpy(input.data() + 28, &crc, sizeof crc);
  const auto header = wire::DecodeHeader(std::span<const std::byte, wire::kHeaderBytes>(input.data(), wire::kHeaderBytes));
  if (!header.ok()) return std::nullopt;
  if (header->meta_bytes > wire::kMaxMetaBytes || header->data_bytes > wire::kMaxDataBytes) std::abort();
  const auto again = wire::EncodeHeader(*header);
  return Bytes(again.begin(), again.end());
}

std::optional<Bytes> SegmentRecord(Bytes head) {
  constexpr chunkserver::LogPosition kAt{3, 160};
  if (head.size() < chunkserver::kRecordHeaderBytes) return std::nullopt;
  const uint32_t crc = Crc32c(std::span(head).subspan(8));
  std::memcpy(head.data() + 4, &crc, sizeof crc);
  const auto size = chunkserver::PeekSize(std::span(head).first(chunkserver::kRecordHeaderBytes), kAt);
  if (!size.ok()) return std::nullopt;
  if (size->table_bytes > chunkserver::kMaxTableBytes || size->payload_bytes > chunkserver::kMaxPayloadBytes) std::abort();
  if (head.size() != size->head_bytes()) return std::nullopt;
  const auto record = chunkserver::DecodeHead(head, kAt);
  if (!record.ok()) return std::nullopt;
  return chunkserver::EncodeHead(*record, kAt);
}

std::optional<Bytes> IndexEntry(Bytes input) {
  const auto entry = chunkserver::DecodeEntry(ToText(input));
  if (!entry) return std::nullopt;
  return FromText(chunkserver::EncodeEntry(*entry));
}

std::optional<Bytes> IndexExtent(Bytes input) {
  const auto extent = chunkserver::DecodeExtent(4, ToText(input));
  if (!extent) return std::nullopt;
  return FromText(chunkserver::EncodeExtent(*extent));
}

// Texts are written in many ways, so only refusals are looked at: each says why.
template <auto parse>
std::optional<Bytes> Text(Bytes input) {
  const auto value = parse(ToText(input));
  if (!value.ok() && value.status().message().empty()) std::abort();
  return std::nullopt;
}

auto ParsePolicy(const std::string& text) { return cli::ParsePolicy(text, {}); }
auto ParseAddress(const std::string& text) { return net::ParseHostPort(text, 9400); }
auto ParseMode(const std::string& text) { return cli::ParseMode(text, 0644, false, 022); }

// New ones at the end: the corpus names them by their place.
constexpr Decoder kDecoders[] = {
    FrameHeader,
    Message<&wire::DecodeHelloRequest>,
    Message<&wire::DecodeHelloReply>,
    Message<&wire::DecodeMutateRequest>,
    Message<&wire::DecodeMutateReply>,
    Message<&wire::DecodeStageRequest>,
    Message<&wire::DecodeStageReply>,
    Message<&wire::DecodeMutateStagedRequest>,
    Message<&wire::DecodeReadRequest>,
    Message<&wire::DecodeReadReply>,
    Message<&wire::DecodeFlushRequest>,
    Message<&wire::DecodeSealRequest>,
    Message<&wire::DecodeBeginRequest>,
    Message<&wire::DecodeQueryRequest>,
    Message<&wire::DecodeBatchReply>,
    Message<&wire::DecodeDigestsRequest>,
    Message<&wire::DecodeDigestsReply>,
    Message<&wire::DecodeExtentsRequest>,
    Message<&wire::DecodeExtentsReply>,
    SegmentRecord,
    IndexEntry,
    IndexExtent,
    Text<&ParsePolicy>,
    Text<&ParseAddress>,
    Text<&cli::ParseDuration>,
    Text<&cli::ParseBytes>,
    Text<&ParseMode>,
    Text<&cli::ParseOwnership>,
};

void Try(std::span<const std::byte> input) {
  if (input.empty()) return;
  const size_t which = static_cast<size_t>(input.front()) % std::size(kDecoders);
  // An allocation of exactly that size: a read beyond it is found.
  const std::optional<Bytes> once = kDecoders[which](Bytes(input.begin() + 1, input.end()));
  if (!once) return;
  const std::optional<Bytes> twice = kDecoders[which](*once);
  if (!twice || *twice != *once) {
    std::fprintf(stderr, "decoder %zu: what was accepted is %s when it is written again\n", which, twice ? "something else" : "refused");
    std::abort();
  }
}

}  // namespace
}  // namespace cairn::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::fuzz::Try(std::as_bytes(std::span(data, size)));
  return 0;
}
