/* mplsshim.so - lets FRR's zebra run label switching on a kernel without CONFIG_MPLS_ROUTING (LD_PRELOAD).
 *
 *  1. stat("/proc/sys/net/mpls") succeeds, so that zebra takes MPLS for supported.
 *  2. Netlink messages are edited on their way to the kernel:
 *       AF_MPLS RTM_NEWROUTE, RTM_DELROUTE         become NLMSG_NOOP, which the kernel skips and acknowledges;
 *       RTA_ENCAP*, NHA_ENCAP*                     are left out: the kernel gets the plain IP route.
 *
 * zebra, and what it says over FPM, keeps the labels; the kernel forwards unlabelled IP, so that loopbacks
 * stay reachable and the routing daemons converge.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/netlink.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef AF_MPLS
#define AF_MPLS 28
#endif

int stat(const char *path, struct stat *status) {
    static int (*next)(const char *, struct stat *);
    if (!next) next = dlsym(RTLD_NEXT, "stat");
    if (path && !strcmp(path, "/proc/sys/net/mpls")) path = "/proc/sys/net";
    return next(path, status);
}

/* Copies attributes but the two that carry labels, inside RTA_MULTIPATH too. Returns the bytes written. */
static unsigned copy_plain(char *to, const char *from, unsigned bytes, int kind_attribute, int labels_attribute) {
    unsigned written = 0;
    while (bytes >= sizeof(struct rtattr)) {
        const struct rtattr *attribute = (const void *)from;
        unsigned length = attribute->rta_len, padded = RTA_ALIGN(length);
        int type = attribute->rta_type & NLA_TYPE_MASK;
        if (length < sizeof *attribute || length > bytes) break;
        if (padded > bytes) padded = bytes;
        if (kind_attribute == RTA_ENCAP_TYPE && type == RTA_MULTIPATH) {
            struct rtattr *copy = (void *)(to + written);
            unsigned out = sizeof *copy, in = sizeof *attribute;
            *copy = *attribute;
            while (in + sizeof(struct rtnexthop) <= length) {
                const struct rtnexthop *hop = (const void *)(from + in);
                struct rtnexthop *plain = (void *)(to + written + out);
                if (hop->rtnh_len < sizeof *hop || in + hop->rtnh_len > length) break;
                *plain = *hop;
                plain->rtnh_len = sizeof *hop + copy_plain((char *)(plain + 1), (const char *)(hop + 1),
                                                           hop->rtnh_len - sizeof *hop, kind_attribute,
                                                           labels_attribute);
                out += RTNH_ALIGN(plain->rtnh_len);
                in += RTNH_ALIGN(hop->rtnh_len);
            }
            copy->rta_len = out;
            written += RTA_ALIGN(out);
        } else if (type != kind_attribute && type != labels_attribute) {
            memcpy(to + written, from, padded);
            written += padded;
        }
        from += padded;
        bytes -= padded;
    }
    return written;
}

/* Copies one netlink message without labels. Returns its length, padded. */
static unsigned copy_message(char *to, const struct nlmsghdr *message) {
    struct nlmsghdr *copy = (void *)to;
    unsigned length = message->nlmsg_len, head = 0;
    int kind_attribute = -1, labels_attribute = -1;
    memcpy(copy, message, length);
    if (message->nlmsg_type == RTM_NEWROUTE || message->nlmsg_type == RTM_DELROUTE) {
        const struct rtmsg *route = NLMSG_DATA(message);
        if (route->rtm_family == AF_MPLS) {
            copy->nlmsg_type = NLMSG_NOOP;
        } else {
            head = NLMSG_LENGTH(sizeof *route);
            kind_attribute = RTA_ENCAP_TYPE;
            labels_attribute = RTA_ENCAP;
        }
    } else if (message->nlmsg_type == RTM_NEWNEXTHOP) {
        struct nhmsg *hop = NLMSG_DATA(copy);
        if (hop->nh_family == AF_MPLS) hop->nh_family = AF_INET;
        head = NLMSG_LENGTH(sizeof *hop);
        kind_attribute = NHA_ENCAP_TYPE;
        labels_attribute = NHA_ENCAP;
    }
    if (head && length > head)
        copy->nlmsg_len = head + copy_plain(to + head, (const char *)message + head, length - head,
                                            kind_attribute, labels_attribute);
    return NLMSG_ALIGN(copy->nlmsg_len);
}

ssize_t sendmsg(int socket, const struct msghdr *header, int flags) {
    static ssize_t (*next)(int, const struct msghdr *, int);
    const struct sockaddr_nl *address = header->msg_name;
    if (!next) next = dlsym(RTLD_NEXT, "sendmsg");
    if (!address || header->msg_namelen != sizeof *address || address->nl_family != AF_NETLINK
        || header->msg_iovlen != 1)
        return next(socket, header, flags);
    unsigned bytes = header->msg_iov[0].iov_len, in = 0, out = 0;
    const char *from = header->msg_iov[0].iov_base;
    char *to = malloc(bytes + 64);
    if (!to) return -1;
    while (in + sizeof(struct nlmsghdr) <= bytes) {
        const struct nlmsghdr *message = (const void *)(from + in);
        if (message->nlmsg_len < sizeof *message || in + message->nlmsg_len > bytes) break;
        out += copy_message(to + out, message);
        in += NLMSG_ALIGN(message->nlmsg_len);
    }
    struct iovec plain = { to, out };
    struct msghdr edited = *header;
    edited.msg_iov = &plain;
    edited.msg_iovlen = 1;
    ssize_t sent = next(socket, &edited, flags);
    free(to);
    return sent < 0 ? sent : (ssize_t)bytes;
}
