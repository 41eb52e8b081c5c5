#include "common/admin_token.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

namespace cairn {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

// Made under another name and linked: whoever reads the file finds all of it, and of two that make one at the
// same time both use the first.
Status MakeToken(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const std::string token, RandomHex(kAdminTokenDigits / 2));
  CAIRN_ASSIGN_OR_RETURN(const std::string suffix, RandomHex(8));
  const std::string temporary = path + "." + suffix;
  {
    const Descriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.get() < 0) return ErrnoStatus(errno, "create " + temporary);
    const std::string line = token + "\n";
    if (write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()) || fsync(file.get()) != 0) {
      const int error = errno;
      unlink(temporary.c_str());
      return ErrnoStatus(error, "write " + temporary);
    }
  }
  const int linked = link(temporary.c_str(), path.c_str());
  const int error = errno;
  unlink(temporary.c_str());
  if (linked != 0 && error != EEXIST) return ErrnoStatus(error, "create " + path);
  return Status::Ok();
}

}  // namespace

Result<std::string> RandomHex(size_t bytes) {
  std::vector<unsigned char> random(bytes);
  if (RAND_bytes(random.data(), static_cast<int>(bytes)) != 1)
    return Status(StatusCode::kIoError, "the system gives no random bytes");
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : random) text += {kDigits[byte >> 4], kDigits[byte & 15]};
  return text;
}

bool SameSecret(const std::string& left, const std::string& right) {
  // Of the digests: they have one length.
  std::array<unsigned char, SHA256_DIGEST_LENGTH> a{}, b{};
  SHA256(reinterpret_cast<const unsigned char*>(left.data()), left.size(), a.data());
  SHA256(reinterpret_cast<const unsigned char*>(right.data()), right.size(), b.data());
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Result<std::string> ReadAdminToken(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    if (errno == ENOENT) return Status(StatusCode::kNotFound, "there is no administrator's token at " + path);
    if (errno == EACCES)
      return Status(StatusCode::kNotPermitted, "the administrator's token " + path + " may not be read by this user");
    return ErrnoStatus(errno, "open " + path);
  }
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(info.st_mode)) return Status(StatusCode::kMalformed, path + " is not a file");
  if ((info.st_mode & 077) != 0) {
    return Status(StatusCode::kNotPermitted,
                  "others than its owner may use the administrator's token " + path + ": chmod 600 it (and remove it, "
                  "so that the master makes a new one, if somebody may have read it)");
  }
  std::array<char, 256> buffer{};
  const ssize_t length = read(file.get(), buffer.data(), buffer.size());
  if (length < 0) return ErrnoStatus(errno, "read " + path);
  std::string token(buffer.data(), static_cast<size_t>(length));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r' || token.back() == ' ')) token.pop_back();
  if (token.size() != kAdminTokenDigits || token.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return Status(StatusCode::kMalformed, path + " does not hold an administrator's token (64 hexadecimal digits): remove it, "
                                                 "and the master makes a new one at its next start");
  }
  return token;
}

Result<std::string> LoadOrMakeAdminToken(const std::string& path) {
  auto token = ReadAdminToken(path);
  if (token.ok() || token.code() != StatusCode::kNotFound) return token;
  CAIRN_RETURN_IF_ERROR(MakeToken(path));
  return ReadAdminToken(path);
}

}  // namespace cairn
