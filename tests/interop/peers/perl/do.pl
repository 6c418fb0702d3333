# One foreground job, and all that is heard of it, an event a line.
# perl do.pl SERVERS FUNCTION [priority=high|low] [unique=U] [timeout=MS] [exceptions=1] < WORKLOAD
use strict;
use warnings;
use Gearman::Client;

my ($servers, $function, @options) = @ARGV;
my %option = map { split /=/, $_, 2 } @options;
my $workload = do { local $/; <STDIN> } // "";
my $say = sub { print @_, "\n" };
$| = 1;

my $client = Gearman::Client->new(
    job_servers => [split /,/, $servers],
    exceptions  => $option{exceptions} // 0,
);
my $tasks  = $client->new_task_set;
my $handle = $tasks->add_task($function, \$workload, {
    uniq         => $option{unique}   // "",
    priority     => $option{priority} // "normal",
    on_data      => sub { $say->("data ",      ${ $_[0] }) },
    on_warning   => sub { $say->("warning ",   ${ $_[0] }) },
    on_status    => sub { $say->("status ",    join "/", @_) },
    on_complete  => sub { $say->("complete ",  ${ $_[0] }) },
    on_exception => sub { $say->("exception ", $_[0]) },
    on_fail      => sub { $say->(($_[0] // "") =~ /timeout/ ? "timeout" : "fail") },
});
$say->("created ", $handle =~ s{.*//}{}r) if $handle;
$tasks->wait(timeout => $option{timeout} && $option{timeout} / 1000);
