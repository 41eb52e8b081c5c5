// A cluster as one side of a copy.
#include "cli/copy/tree.h"

namespace cairn::cli {
namespace {

using client::Attributes;
using client::Client;
using client::Entry;
using client::FileType;
using client::Handle;

class ClusterReader final : public Reader {
 public:
  ClusterReader(Client* client, Handle handle, std::string path)
      : client_(client), handle_(handle), path_(std::move(path)) {}
  ~ClusterReader() override { (void)client_->Close(handle_); }
  Result<size_t> Read(uint64_t offset, std::span<std::byte> buffer) override {
    auto got = client_->Read(handle_, offset, buffer);
    if (!got.ok()) return got.status().WithContext("read " + path_);
    return got;
  }
  // Holes read as zeros and are found again by the copy.
  Result<uint64_t> NextData(uint64_t offset) override { return offset; }
  Client* client() const { return client_; }
  Handle handle() const { return handle_; }

 private:
  Client* const client_;
  const Handle handle_;
  const std::string path_;
};

class ClusterWriter final : public Writer {
 public:
  ClusterWriter(Client* client, Handle handle, client::Caller caller, InodeId inode, std::string path)
      : client_(client), handle_(handle), caller_(std::move(caller)), inode_(inode), path_(std::move(path)) {}
  ~ClusterWriter() override {
    if (handle_ != Handle::kNone) (void)client_->Close(handle_);
  }
  Status Write(uint64_t offset, std::span<const std::byte> data) override {
    return client_->Write(handle_, offset, data).status().WithContext("write " + path_);
  }
  std::optional<Result<uint64_t>> CopyFrom(Reader& from, uint64_t offset, uint64_t length) override {
    const auto* source = dynamic_cast<const ClusterReader*>(&from);
    if (source == nullptr || source->client() != client_) return std::nullopt;
    auto copied = client_->CopyRange(source->handle(), offset, handle_, offset, length);
    if (!copied.ok()) return copied.status().WithContext("copy to " + path_);
    return copied;
  }
  Status SetSize(uint64_t size) override {
    client::SetAttributes set;
    set.size = size;
    return client_->SetAttr(caller_, inode_, set).status().WithContext("truncate " + path_);
  }
  Status Close() override {
    const Status status = client_->Close(handle_).WithContext("close " + path_);
    handle_ = Handle::kNone;
    return status;
  }

 private:
  Client* const client_;
  Handle handle_;
  const client::Caller caller_;
  const InodeId inode_;
  const std::string path_;
};

class ClusterTree final : public Tree {
 public:
  explicit ClusterTree(Client* client) : client_(client), caller_(CurrentCaller()) {}

  Result<Info> Stat(const std::string& path, bool follow) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(path, follow));
    return Info{entry.attr, 0};
  }

  Status ForEach(const std::string& directory,
                 const std::function<Status(const std::string&, const Info&)>& visit) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(directory, true));
    return ForEachEntry(*client_, caller_, entry.attr.inode, [&](const client::DirectoryEntry& item) {
      if (!item.entry) return Status::Ok();
      return visit(item.name, Info{item.entry->attr, 0});
    });
  }

  Result<std::string> ReadLink(const std::string& path) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(path, false));
    return client_->ReadLink(caller_, entry.attr.inode);
  }

  Result<std::unique_ptr<Reader>> Open(const std::string& path) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(path, true));
    auto handle = client_->Open(caller_, entry.attr.inode, {.read = true});
    if (!handle.ok()) return handle.status().WithContext(Name(path));
    return std::unique_ptr<Reader>(std::make_unique<ClusterReader>(client_, *handle, Name(path)));
  }

  Result<std::unique_ptr<Writer>> Create(const std::string& path, uint32_t mode, bool reuse) override {
    CAIRN_ASSIGN_OR_RETURN(const auto parent, Parent(path));
    const client::OpenFlags flags{.read = false, .write = true, .truncate = !reuse};
    auto created = client_->Create(caller_, parent.parent, parent.name, {.mode = mode}, flags);
    if (!created.ok()) return created.status().WithContext("create " + Name(path));
    return std::unique_ptr<Writer>(std::make_unique<ClusterWriter>(client_, created->handle, caller_,
                                                                   created->entry.attr.inode, Name(path)));
  }

  Status Rename(const std::string& from, const std::string& to) override {
    CAIRN_ASSIGN_OR_RETURN(const auto source, Parent(from));
    CAIRN_ASSIGN_OR_RETURN(const auto target, Parent(to));
    return client_->Rename(caller_, source.parent, source.name, target.parent, target.name, 0)
        .WithContext("rename to " + Name(to));
  }
  Status Remove(const std::string& path) override {
    CAIRN_ASSIGN_OR_RETURN(const auto parent, Parent(path));
    return client_->Unlink(caller_, parent.parent, parent.name).WithContext("remove " + Name(path));
  }
  Status MakeDirectory(const std::string& path, uint32_t mode) override {
    CAIRN_ASSIGN_OR_RETURN(const auto parent, Parent(path));
    return client_->Mkdir(caller_, parent.parent, parent.name, mode)
        .status()
        .WithContext("mkdir " + Name(path));
  }
  Status MakeSymlink(const std::string& path, const std::string& target) override {
    CAIRN_ASSIGN_OR_RETURN(const auto parent, Parent(path));
    return client_->Symlink(caller_, parent.parent, parent.name, target)
        .status()
        .WithContext("symlink " + Name(path));
  }
  Status MakeLink(const std::string& existing, const std::string& path) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(existing, false));
    CAIRN_ASSIGN_OR_RETURN(const auto parent, Parent(path));
    return client_->Link(caller_, entry.attr.inode, parent.parent, parent.name)
        .status()
        .WithContext("link " + Name(path));
  }
  Status MakeNode(const std::string& path, FileType type, uint32_t mode, uint64_t rdev) override {
    CAIRN_ASSIGN_OR_RETURN(const auto parent, Parent(path));
    return client_->Mknod(caller_, parent.parent, parent.name, type, mode, rdev)
        .status()
        .WithContext("mknod " + Name(path));
  }

  Status SetMetadata(const std::string& path, const Info& info, const Preserve& what) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(path, false));
    bool owner_set = !what.owner || (entry.attr.uid == info.attr.uid && entry.attr.gid == info.attr.gid);
    if (!owner_set) {
      client::SetAttributes owner;
      owner.uid = info.attr.uid;
      owner.gid = info.attr.gid;
      const Status status = client_->SetAttr(caller_, entry.attr.inode, owner).status();
      owner_set = status.ok();
      if (!status.ok() && status.code() != StatusCode::kNotPermitted)
        return status.WithContext("chown " + Name(path));
    }
    client::SetAttributes rest;
    if (what.mode && info.attr.type != FileType::kSymlink)
      rest.mode = owner_set ? info.attr.mode : info.attr.mode & ~06000u;
    if (what.times) {
      rest.atime = info.attr.atime;
      rest.mtime = info.attr.mtime;
    }
    if (!rest.mode && !rest.atime) return Status::Ok();
    return client_->SetAttr(caller_, entry.attr.inode, rest)
        .status()
        .WithContext("set attributes of " + Name(path));
  }

  Result<std::vector<std::pair<std::string, std::string>>> Xattrs(const std::string& path) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(path, false));
    CAIRN_ASSIGN_OR_RETURN(const auto names, client_->ListXattr(caller_, entry.attr.inode));
    std::vector<std::pair<std::string, std::string>> all;
    for (const std::string& name : names) {
      auto value = client_->GetXattr(caller_, entry.attr.inode, name);
      if (value.ok()) all.emplace_back(name, *value);
    }
    return all;
  }
  Status SetXattr(const std::string& path, const std::string& name, const std::string& value) override {
    CAIRN_ASSIGN_OR_RETURN(const Entry entry, Resolve(path, false));
    return client_->SetXattr(caller_, entry.attr.inode, name, value, 0)
        .WithContext("set extended attribute " + name + " of " + Name(path));
  }
  std::string Name(const std::string& path) const override { return "cairn:" + path; }

 private:
  Result<Entry> Resolve(const std::string& path, bool follow) {
    auto entry = client::ResolvePath(*client_, caller_, path, follow);
    if (!entry.ok()) return entry.status().WithContext(Name(path));
    return entry;
  }
  Result<client::ParentAndName> Parent(const std::string& path) {
    auto parent = client::ResolveParent(*client_, caller_, path);
    if (!parent.ok()) return parent.status().WithContext(Name(path));
    return parent;
  }

  Client* const client_;
  const client::Caller caller_;
};

}  // namespace

std::unique_ptr<Tree> MakeClusterTree(client::Client* client) {
  return std::make_unique<ClusterTree>(client);
}

}  // namespace cairn::cli
