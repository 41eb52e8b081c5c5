// chunk explain, chunk accept-loss.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/admin/admin.h"
#include "cli/admin/admin_client.h"
#include "cli/admin/status_text.h"
#include "cli/admin/target.h"
#include "cli/core/config.h"
#include "cli/core/format.h"

namespace cairn::cli {
namespace {

constexpr uint64_t kChunksShownOfAFile = 16;

std::string StampText(const proto::Stamp& stamp) {
  return stamp.epoch() == 0 && stamp.seq() == 0 ? "-" : fmt::format("{}.{}", stamp.epoch(), stamp.seq());
}

struct ExplainOptions {
  std::string target;
  int64_t index = -1;
  bool all = false;
};

bool IsHole(const Status& status) {
  return status.code() == StatusCode::kNotFound || status.code() == StatusCode::kUnknownChunk;
}

void Print(Context& context, const std::vector<proto::ExplainChunkResponse>& chunks, bool as_list) {
  if (!context.json) {
    for (const auto& chunk : chunks) *context.out << ExplainText(chunk);
    *context.out << std::flush;
    return;
  }
  nlohmann::json list = nlohmann::json::array();
  for (const auto& chunk : chunks) list.push_back(ToJson(chunk));
  *context.out << (as_list ? list : list.at(0)).dump(2) << std::endl;
}

Status ExplainFile(Context& context, const ExplainOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, ParseTarget(options.target));
  CAIRN_ASSIGN_OR_RETURN(const auto masters, MastersOf(context, location));
  Sessions sessions(context);
  CAIRN_ASSIGN_OR_RETURN(const client::Entry entry, ResolveTarget(sessions, location));
  const client::Attributes& attr = entry.attr;
  if (attr.type != client::FileType::kRegular) {
    return {StatusCode::kInvalidArgument,
            location.path + " is a " + TypeName(attr.type) + "; only regular files have chunks"};
  }
  const uint64_t total = attr.chunk_bytes == 0 ? 0 : (attr.size + attr.chunk_bytes - 1) / attr.chunk_bytes;
  uint64_t first = 0, last = total;
  if (options.index >= 0) {
    first = static_cast<uint64_t>(options.index);
    last = first + 1;
  } else if (!options.all && context.json) {
    last = std::min<uint64_t>(total, 1);
  } else if (!options.all) {
    last = std::min(total, kChunksShownOfAFile);
  }
  AdminClient admin(masters);
  std::vector<proto::ExplainChunkResponse> chunks;
  for (uint64_t index = first; index < last && !Interrupted(); ++index) {
    proto::ExplainChunkRequest request;
    request.set_inode(attr.inode.value());
    request.set_index(index);
    auto chunk = admin.ExplainChunk(request);
    if (chunk.ok()) {
      chunks.push_back(*std::move(chunk));
    } else if (!IsHole(chunk.status())) {
      return chunk.status().WithContext(fmt::format("chunk {} of {}", index, location.path));
    }
  }
  if (!context.json) {
    *context.out << fmt::format("{}: inode {}, {} in {} chunk{} of {}\n", location.path, ToString(attr.inode),
                                HumanBytes(attr.size), total, total == 1 ? "" : "s",
                                HumanBytes(attr.chunk_bytes));
  }
  if (chunks.empty()) {
    return {StatusCode::kNotFound,
            location.path + ": nothing is stored there (empty, a hole, or not yet written)"};
  }
  Print(context, chunks, options.all);
  if (!context.json && last < total && options.index < 0) {
    *context.out << fmt::format("... {} more chunks: --all shows them, --index N one of them\n", total - last)
                 << std::flush;
  }
  return Status::Ok();
}

Status Explain(Context& context, const ExplainOptions& options) {
  if (!LooksLikeChunkId(options.target)) return ExplainFile(context, options);
  CAIRN_ASSIGN_OR_RETURN(const uint64_t id, ParseChunkId(options.target));
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(masters);
  proto::ExplainChunkRequest request;
  request.set_chunk(id);
  CAIRN_ASSIGN_OR_RETURN(const auto chunk, admin.ExplainChunk(request));
  Print(context, {chunk}, options.all);
  return Status::Ok();
}

struct LossOptions {
  std::string chunk, reason;
  bool yes = false;
};

Status AcceptLoss(Context& context, const LossOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t id, ParseChunkId(options.chunk));
  if (options.reason.empty())
    return {StatusCode::kInvalidArgument, "--reason must not be empty: it is kept in the audit log"};
  CAIRN_ASSIGN_OR_RETURN(const auto masters, FindMasters(context));
  AdminClient admin(context, masters);
  proto::ExplainChunkRequest question;
  question.set_chunk(id);
  CAIRN_ASSIGN_OR_RETURN(const auto chunk, admin.ExplainChunk(question));
  if (!options.yes) {
    if (isatty(STDIN_FILENO) == 0)
      return {StatusCode::kInvalidArgument, "without a terminal to ask at, confirm with --yes"};
    *context.out << ExplainText(chunk)
                 << "\nThis gives up the newest data of this chunk for good; it goes on from the best copy "
                    "that is left.\n"
                    "Servers that come back later with newer data are ignored. Type yes to go on: "
                 << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "yes") return {StatusCode::kCancelled, "not confirmed; nothing was changed"};
  }
  proto::AcceptLossRequest request;
  request.set_chunk(id);
  request.set_reason(options.reason);
  request.set_operator_(UserName(getuid()));
  CAIRN_ASSIGN_OR_RETURN(const auto response, admin.AcceptLoss(request));
  *context.out << response.outcome() << std::endl;
  return Status::Ok();
}

}  // namespace

bool LooksLikeChunkId(const std::string& text) {
  return !text.empty() && text.find_first_not_of(text.starts_with("0x") ? "0123456789abcdefABCDEFx"
                                                                        : "0123456789") == std::string::npos;
}

Result<uint64_t> ParseChunkId(const std::string& text) {
  const bool hexadecimal = text.starts_with("0x");
  const char* const first = text.data() + (hexadecimal ? 2 : 0);
  const char* const last = text.data() + text.size();
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(first, last, id, hexadecimal ? 16 : 10);
  if (error != std::errc{} || end != last || id == 0) {
    return Status(StatusCode::kInvalidArgument, "'" + text + "' is not a chunk id (examples: 42, 0x2a)");
  }
  return id;
}

std::string ExplainText(const proto::ExplainChunkResponse& chunk) {
  std::string text = fmt::format(
      "chunk {} ({}), number {} of {}\n", chunk.chunk(), ToString(ChunkId{chunk.chunk()}), chunk.index(),
      chunk.path().empty() ? fmt::format("inode {}", chunk.inode()) : chunk.path());
  text += fmt::format("  state     {}, {} bytes\n", chunk.state(), chunk.length());
  text += fmt::format("  policy    {} replicas, write quorum {}\n", chunk.replicas(), chunk.write_quorum());
  text += fmt::format("  stamps    epoch {}, base {}, sealed {}, durable {}\n", chunk.epoch(),
                      StampText(chunk.base()), StampText(chunk.sealed()), StampText(chunk.durable()));
  if (chunk.writer_session() != 0) text += fmt::format("  writer    session {}\n", chunk.writer_session());
  for (const auto& member : chunk.members()) {
    text += fmt::format("  cs{:<4} {:<22} {:<11} accepted {:<10} durable {:<10} promised {} {}{}\n",
                        member.server(), member.address(), member.state(), StampText(member.accepted()),
                        StampText(member.durable()), member.promised(), member.detail().empty() ? "" : "- ",
                        member.detail());
  }
  for (const std::string& reason : chunk.reasons()) text += "  because   " + reason + "\n";
  if (!chunk.next_attempt().empty()) text += "  next      " + chunk.next_attempt() + "\n";
  for (const std::string& event : chunk.history()) text += "  history   " + event + "\n";
  return text;
}

void RegisterChunkCommands(CLI::App& app, Context& context) {
  CLI::App* chunk = app.add_subcommand("chunk", "Chunks: where they are, and how healthy");
  chunk->require_subcommand(1);

  auto explain_options = std::make_shared<ExplainOptions>();
  CLI::App* explain =
      chunk->add_subcommand("explain", "Replicas, their stamps, what is missing and why, what is tried next");
  explain
      ->add_option("target", explain_options->target,
                   "Chunk id, or a file: /PATH, cairn://HOST/PATH, or below a mount")
      ->required();
  explain->add_option("--index", explain_options->index, "Number of the chunk in its file")
      ->check(CLI::NonNegativeNumber);
  explain->add_flag("--all", explain_options->all, "All chunks of the file");
  explain->add_flag("--json", context.json, "For programs: one object, with --all a list");
  explain->callback([&context, explain_options] {
    if (const Status status = Explain(context, *explain_options); !status.ok()) context.Fail(status);
  });

  auto loss_options = std::make_shared<LossOptions>();
  CLI::App* loss = chunk->add_subcommand("accept-loss",
                                         "Give up the newest data of a damaged chunk; audited, not undoable");
  loss->add_option("chunk", loss_options->chunk, "Chunk id")->required();
  loss->add_option("--reason", loss_options->reason, "Why; kept in the master's audit log")->required();
  loss->add_flag("--yes", loss_options->yes, "Do not ask");
  loss->callback([&context, loss_options] {
    if (const Status status = AcceptLoss(context, *loss_options); !status.ok()) context.Fail(status);
  });
}

}  // namespace cairn::cli
