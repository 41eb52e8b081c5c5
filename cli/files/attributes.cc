// touch, chmod, chown, xattr: what changes attributes.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/core/format.h"
#include "cli/files/files.h"
#include "cli/files/location.h"
#include "cli/files/walk.h"

namespace cairn::cli {
namespace {

using client::Attributes;
using client::Entry;
using client::FileType;
using client::SetAttributes;

using Change = std::function<Result<SetAttributes>(const Attributes&)>;

// Applies a change to a path and, with recursive, to everything below it. Symlinks below are left alone.
class TreeChanger final : public TreeVisitor {
 public:
  TreeChanger(Context& context, const char* command, bool recursive, const ClusterPath& where, const Change& change)
      : context_(context), command_(command), recursive_(recursive), where_(where), change_(change) {}

 private:
  Result<bool> Enter(const Visited& at) override {
    if (at.depth > 0 && at.attr.type == FileType::kSymlink) return false;
    const Status status = Apply(at);
    if (status.code() == StatusCode::kInterrupted) return status;
    if (!status.ok()) context_.Fail(status.WithContext(command_));
    return recursive_;
  }
  Status Leave(const Visited& at, const Status& listed) override {
    if (!listed.ok()) context_.Fail(listed.WithContext(at.path).WithContext(command_));
    return Status::Ok();
  }
  Status Apply(const Visited& at) {
    CAIRN_ASSIGN_OR_RETURN(const SetAttributes set, change_(at.attr));
    return where_.client->SetAttr(where_.caller, at.attr.inode, set).status().WithContext(at.path);
  }

  Context& context_;
  const char* const command_;
  const bool recursive_;
  const ClusterPath& where_;
  const Change& change_;
};

void ApplyToTree(Context& context, const char* command, const std::vector<std::string>& arguments, bool recursive,
                 const Change& change) {
  Sessions sessions(context);
  for (const std::string& argument : arguments) {
    auto where = OpenClusterPath(sessions, argument);
    auto entry = where.ok() ? where->Resolve(true) : Result<Entry>(where.status());
    Status status = entry.status();
    if (status.ok()) {
      TreeChanger changer(context, command, recursive, *where, change);
      status = WalkTree(*where, InodeId(), BaseName(where->path), entry->attr, changer);
    }
    if (!status.ok()) context.Fail(status.WithContext(command));
    if (Interrupted()) return;
  }
}

Status Touch(const ClusterPath& where, bool no_create) {
  auto entry = client::ResolvePath(*where.client, where.caller, where.path, true);
  if (entry.code() == StatusCode::kNotFound) {
    if (no_create) return Status::Ok();
    CAIRN_ASSIGN_OR_RETURN(const auto parent, where.Parent());
    auto created =
        where.client->Create(where.caller, parent.parent, parent.name, {.mode = 0644}, {.write = true});
    if (!created.ok()) return created.status().WithContext(where.path);
    return where.client->Close(created->handle).WithContext(where.path);
  }
  if (!entry.ok()) return entry.status().WithContext(where.path);
  SetAttributes now;
  now.atime_now = now.mtime_now = true;
  return where.client->SetAttr(where.caller, entry->attr.inode, now).status().WithContext(where.path);
}

struct XattrOptions {
  std::string action, path, name, value;
};

void RunXattr(Context& context, const XattrOptions& options) {
  Sessions sessions(context);
  auto work = [&]() -> Status {
    CAIRN_ASSIGN_OR_RETURN(const ClusterPath where, OpenClusterPath(sessions, options.path));
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, where.Resolve(true));
    const InodeId inode = entry.attr.inode;
    if (options.action == "list") {
      CAIRN_ASSIGN_OR_RETURN(const auto names, where.client->ListXattr(where.caller, inode));
      if (context.json) {
        *context.out << nlohmann::json(names).dump(2, ' ', false, nlohmann::json::error_handler_t::replace)
                     << "\n";
      } else {
        for (const std::string& name : names) *context.out << Printable(name) << "\n";
      }
      return Status::Ok();
    }
    if (options.action == "get") {
      CAIRN_ASSIGN_OR_RETURN(const std::string value,
                             where.client->GetXattr(where.caller, inode, options.name));
      *context.out << value << "\n";
      return Status::Ok();
    }
    if (options.action == "set")
      return where.client->SetXattr(where.caller, inode, options.name, options.value, 0);
    return where.client->RemoveXattr(where.caller, inode, options.name);
  };
  const Status status = work();
  if (!status.ok()) context.Fail(status.WithContext("xattr " + options.action + " " + options.path));
}

}  // namespace

void RegisterAttributeCommands(CLI::App& app, Context& context) {
  using Paths = std::vector<std::string>;
  auto touch_paths = std::make_shared<Paths>();
  auto no_create = std::make_shared<bool>(false);
  CLI::App* touch = app.add_subcommand("touch", "Set times to now; make missing files");
  touch->add_option("paths", *touch_paths, "Paths of the cluster")->required();
  touch->add_flag("-c,--no-create", *no_create, "Make nothing");
  touch->callback([&context, touch_paths, no_create] {
    Sessions sessions(context);
    for (const std::string& argument : *touch_paths) {
      auto where = OpenClusterPath(sessions, argument);
      const Status status = where.ok() ? Touch(*where, *no_create) : where.status();
      if (!status.ok()) context.Fail(status.WithContext("touch"));
    }
  });

  auto chmod_mode = std::make_shared<std::string>();
  auto chmod_paths = std::make_shared<Paths>();
  auto chmod_recursive = std::make_shared<bool>(false);
  CLI::App* chmod = app.add_subcommand("chmod", "Change permissions");
  chmod->add_option("mode", *chmod_mode, "Octal, or like u+rw,go-w")->required();
  chmod->add_option("paths", *chmod_paths, "Paths of the cluster")->required();
  chmod->add_flag("-R,--recursive", *chmod_recursive, "Also what is below");
  chmod->callback([&context, chmod_mode, chmod_paths, chmod_recursive] {
    const uint32_t mask = ::umask(0);
    ::umask(mask);
    if (auto valid = ParseMode(*chmod_mode, 0, false, mask); !valid.ok()) {
      return context.FailWith(kExitUsage, "chmod: " + valid.status().message());
    }
    ApplyToTree(context, "chmod", *chmod_paths, *chmod_recursive,
                [&](const Attributes& attr) -> Result<SetAttributes> {
                  CAIRN_ASSIGN_OR_RETURN(
                      const uint32_t mode,
                      ParseMode(*chmod_mode, attr.mode, attr.type == FileType::kDirectory, mask));
                  SetAttributes set;
                  set.mode = mode;
                  return set;
                });
  });

  auto owner = std::make_shared<std::string>();
  auto chown_paths = std::make_shared<Paths>();
  auto chown_recursive = std::make_shared<bool>(false);
  CLI::App* chown = app.add_subcommand("chown", "Change owner and group");
  chown->add_option("owner", *owner, "USER, USER:GROUP or :GROUP; names or numbers")->required();
  chown->add_option("paths", *chown_paths, "Paths of the cluster")->required();
  chown->add_flag("-R,--recursive", *chown_recursive, "Also what is below");
  chown->callback([&context, owner, chown_paths, chown_recursive] {
    const auto ownership = ParseOwnership(*owner);
    if (!ownership.ok()) return context.FailWith(kExitUsage, "chown: " + ownership.status().message());
    ApplyToTree(context, "chown", *chown_paths, *chown_recursive,
                [&](const Attributes&) -> Result<SetAttributes> {
                  SetAttributes set;
                  if (ownership->has_uid) set.uid = ownership->uid;
                  if (ownership->has_gid) set.gid = ownership->gid;
                  return set;
                });
  });

  CLI::App* xattr = app.add_subcommand("xattr", "Extended attributes");
  xattr->require_subcommand(1);
  for (const char* action : {"list", "get", "set", "remove"}) {
    auto options = std::make_shared<XattrOptions>();
    options->action = action;
    CLI::App* command = xattr->add_subcommand(action);
    command->add_option("path", options->path, "Path of the cluster")->required();
    if (options->action != "list")
      command->add_option("name", options->name, "For example user.comment")->required();
    if (options->action == "set") command->add_option("value", options->value, "Its value")->required();
    if (options->action == "list") command->add_flag("--json", context.json, "For programs");
    command->callback([&context, options] { RunXattr(context, *options); });
  }
}

}  // namespace cairn::cli
