# perl worker.pl HOST:PORT
use strict;
use warnings;
use Gearman::Worker;

my $worker = Gearman::Worker->new(job_servers => [$ARGV[0]]);
$worker->register_function(perl_reverse => sub { scalar reverse $_[0]->arg });
$worker->register_function(perl_wc => sub { ($_[0]->arg =~ tr/\n//) . "\n" });
$worker->register_function(perl_dies => sub { die "no such luck\n" });
$worker->work while 1;
