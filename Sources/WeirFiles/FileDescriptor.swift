package import Glibc

/// One open file, closed with the value. A thin layer over POSIX: each call retried on EINTR, a
/// short write continued, and every failure an error with the path.
package struct FileDescriptor: ~Copyable, Sendable {
    package let path: String
    private let number: Int32

    /// - Parameter mode: of a file that is created: private, because events may be.
    package init(path: String, flags: Int32, mode: mode_t = 0o600) throws(FileFailure) {
        self.path = path
        // A symbolic link in the place of a file of ours is never followed.
        number = retrying { unsafe open(path, flags | O_CLOEXEC | O_NOFOLLOW, mode) }
        if number < 0 { throw FileFailure("open", path) }
    }

    deinit { close(number) }

    /// Takes an exclusive lock without waiting; false when another process holds it.
    package borrowing func lock() -> Bool { flock(number, LOCK_EX | LOCK_NB) == 0 }

    package borrowing func size() throws(FileFailure) -> Int {
        var facts = stat()
        guard unsafe fstat(number, &facts) == 0 else { throw FileFailure("stat", path) }
        return Int(facts.st_size)
    }

    /// What tells this file from every other that stands on the same disk at the time.
    package borrowing func inode() throws(FileFailure) -> UInt64 {
        var facts = stat()
        guard unsafe fstat(number, &facts) == 0 else { throw FileFailure("stat", path) }
        return UInt64(facts.st_ino)
    }

    /// What changes when its bytes do.
    package borrowing func stamp() throws(FileFailure) -> FileStamp {
        var facts = stat()
        guard unsafe fstat(number, &facts) == 0 else { throw FileFailure("stat", path) }
        return FileStamp(
            size: Int(facts.st_size), seconds: Int(facts.st_mtim.tv_sec),
            nanoseconds: Int(facts.st_mtim.tv_nsec))
    }

    /// Whether the file has a name still, here or elsewhere: it was moved, and not removed.
    package borrowing func hasName() -> Bool {
        var facts = stat()
        return unsafe fstat(number, &facts) == 0 && facts.st_nlink > 0
    }

    /// What is left of the file's disk for us, and the size of all of it; nil when it does not say.
    package var space: (free: Int, total: Int)? {
        var facts = statvfs()
        guard unsafe fstatvfs(number, &facts) == 0, facts.f_blocks > 0 else { return nil }
        let block = UInt64(facts.f_frsize)
        return (
            Self.bytes(blocks: UInt64(facts.f_bavail), of: block),
            Self.bytes(blocks: UInt64(facts.f_blocks), of: block)
        )
    }

    /// A network file system may report less than nothing as free, which arrives as a huge number,
    /// and sizes that no file offset reaches.
    package static func bytes(blocks: UInt64, of size: UInt64) -> Int {
        guard blocks <= Int64.max else { return 0 }
        let (bytes, isTooMuch) = blocks.multipliedReportingOverflow(by: size)
        return isTooMuch ? .max : Int(clamping: bytes)
    }

    package borrowing func owner() throws(FileFailure) -> UInt32 {
        var facts = stat()
        guard unsafe fstat(number, &facts) == 0 else { throw FileFailure("stat", path) }
        return facts.st_uid
    }

    /// Device and inode, to notice that the path leads to another file by now.
    package borrowing func isStill(at path: String) -> Bool {
        var mine = stat()
        var theirs = stat()
        return unsafe fstat(number, &mine) == 0 && stat(path, &theirs) == 0
            && mine.st_dev == theirs.st_dev && mine.st_ino == theirs.st_ino
    }

    package borrowing func write(
        _ bytes: UnsafeRawBufferPointer, at offset: Int
    ) throws(FileFailure) {
        var done = 0
        while done < bytes.count {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
            let number = number
            let count = retrying {
                unsafe pwrite(number, rest.baseAddress, rest.count, off_t(offset + done))
            }
            if count <= 0 { throw FileFailure("write to", path) }
            done += count
        }
    }

    /// Exactly `count` bytes at `offset`; fewer only at the end of the file.
    package borrowing func read(_ count: Int, at offset: Int) throws(FileFailure) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let number = number
            let got = unsafe bytes.withUnsafeMutableBytes { buffer in
                let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
                return retrying {
                    unsafe pread(number, rest.baseAddress, rest.count, off_t(offset + done))
                }
            }
            if got < 0 { throw FileFailure("read from", path) }
            if got == 0 { break }
            done += got
        }
        bytes.removeLast(count - done)
        return bytes
    }

    package borrowing func truncate(to size: Int) throws(FileFailure) {
        let number = number
        guard retrying({ ftruncate(number, off_t(size)) }) == 0 else {
            throw FileFailure("truncate", path)
        }
    }

    /// Makes the file `size` bytes long and takes the disk space for all of them.
    package borrowing func reserve(_ size: Int) throws(FileFailure) {
        let code = posix_fallocate(number, 0, off_t(size))
        guard code == 0 else {
            errno = code
            throw FileFailure("reserve space for", path)
        }
    }

    /// Data and size on disk. A failure is final for what was written before: a second call may
    /// succeed without the bytes being safe.
    package borrowing func sync() throws(FileFailure) {
        let number = number
        guard retrying({ fdatasync(number) }) == 0 else { throw FileFailure("sync", path) }
    }

    /// Makes a file's name durable, not only its bytes.
    package static func syncDirectory(of path: String) throws(FileFailure) {
        let parent =
            path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : path[..<$0] } ?? "."
        let number = unsafe open(String(parent), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else { throw FileFailure("open", String(parent)) }
        defer { close(number) }
        guard fsync(number) == 0 else { throw FileFailure("sync", String(parent)) }
    }
}

/// A file's size, and when it was written to last.
package struct FileStamp: Equatable, Sendable {
    package let size: Int
    package let seconds: Int
    package let nanoseconds: Int
}

/// A system call on a file that failed, with the kernel's reason.
package struct FileFailure: Error, Sendable {
    package let code: Int32
    package let message: String

    init(_ work: String, _ path: String) {
        code = errno
        message = unsafe "could not \(work) \"\(path)\": \(String(cString: strerror(code)))"
    }

    /// No system call failed, but the file is not what it must be.
    package init(damaged path: String) {
        code = 0
        message = "\"\(path)\" is damaged"
    }

    /// Another process holds the file's lock.
    package init(busy path: String) {
        code = EWOULDBLOCK
        message = "another process has \"\(path)\" open for writing"
    }

    package var isDamage: Bool { code == 0 }

    /// The disk, the user's share of it or the file's allowed size is used up.
    package var isOutOfSpace: Bool { [ENOSPC, EDQUOT, EFBIG].contains(code) }
}

extension [UInt8] {
    /// `withUnsafeBytes` that keeps the type of what it throws.
    package func withBytes<R, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        var result: Result<R, E>?
        unsafe withUnsafeBytes { bytes in
            do throws(E) { result = .success(try unsafe body(bytes)) } catch {
                result = .failure(error)
            }
        }
        guard let result else { preconditionFailure("withUnsafeBytes did not call its body") }
        return try result.get()
    }
}

private func retrying<Result: SignedInteger>(_ call: () -> Result) -> Result {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}
